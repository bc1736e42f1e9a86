"""Every script parses alike, and no float of any of them is NaN or infinite."""

import re
from dataclasses import dataclass

import pytest

from unite.cli import main as unite
from unite.config.flags import finite, parse


@dataclass(frozen=True, kw_only=True)
class Options:
    rate: float = 1.0
    pair: tuple[float, float] = (0.0, 1.0)
    maybe: float | None = None
    words: tuple[str, ...] = ()


def options(*words):
    return parse(Options, description=None, args=words)


def test_numbers_are_read_as_ever():
    read = options("--rate", "1e-3", "--pair", "0", "0.5", "--maybe", "2", "--words", "nan", "inf")
    assert read == Options(rate=1e-3, pair=(0.0, 0.5), maybe=2.0, words=("nan", "inf"))
    assert options("--maybe", "None").maybe is None
    assert parse(Options, description=None, default=Options(rate=3.0), args=[]).rate == 3.0


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "infinity", "1e999"])
@pytest.mark.parametrize("flag", [["--rate"], ["--maybe"], ["--pair", "0"]])
def test_what_is_no_finite_number_ends_the_command(flag, value, capsys):
    with pytest.raises(SystemExit) as ended:
        options(f"{flag[0]}={value}") if len(flag) == 1 else options(*flag, value)
    assert ended.value.code == 2
    assert flag[0] in "".join(capsys.readouterr())


def test_the_message_says_what_is_wrong():
    with pytest.raises(ValueError, match="nan is not a finite number"):
        finite("nan")


def test_the_unite_command_parses_with_the_same_rules():
    with pytest.raises(SystemExit) as ended:
        unite(["plan", "digits", "--epochs", "inf"])
    assert ended.value.code == 2


def test_no_script_parses_otherwise(root):
    files = [
        file for room in ("jobs", "ablations", "dashboards") for file in root.glob(f"{room}/*")
    ]
    files += (root / "platform/unite").rglob("*.py")
    alone = root / "platform/unite/config/flags.py"
    found = [
        file
        for file in files
        if file.suffix == ".py" and file != alone and re.search(r"tyro\.cli\(", file.read_text())
    ]
    assert found == []
