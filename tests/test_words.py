"""Counts, durations and commands as messages have them."""

import ast
import re
import shlex
import tomllib
from itertools import pairwise
from pathlib import Path

import pytest

import unite
from unite.words import brings, clock, command, count, duration


def test_counts_have_their_noun():
    assert [count(n, "image") for n in (0, 1, 2, 1500)] == [
        "0 images",
        "1 image",
        "2 images",
        "1,500 images",
    ]
    assert count(2, "class", "classes") == "2 classes"
    assert [count(n, "CPU") for n in (0.5, 1.0, 2.0)] == ["0.5 CPUs", "1 CPU", "2 CPUs"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (9.9, "0:09"), (61, "1:01"), (3661, "1:01:01"), (-5, "0:00")]
)
def test_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (106, "2 min"), (5400, "1.5 h"), (200_000, "2.3 days")]
)
def test_duration(seconds, text):
    assert duration(seconds) == text


def test_commands_can_be_pasted():
    words = ["python", "jobs/train.py", "--storage", "my runs/it's"]
    assert shlex.split(command(*words)) == words


NOUNS = "image|worker|sample|step|classe|CPU|GPU|run|shard|file|result|node|trial|checkpoint|point"
GLUED = re.compile(rf"^ ({NOUNS})s\b(?!/)")
TOLD = ("ablation", "cluster", "commands")
"""Rooms that talk to the user."""


def glued_plurals(path: Path) -> list[str]:
    """Places where a number in an f-string is followed by a plural that does not ask for it."""
    strings = [
        node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.JoinedStr)
    ]
    return [
        f"{path.name}:{text.lineno}: {ast.unparse(number)}{word.value[:20]}"
        for text in strings
        for number, word in pairwise(text.values)
        if isinstance(number, ast.FormattedValue)
        and isinstance(word, ast.Constant)
        and GLUED.match(str(word.value))
    ]


@pytest.mark.parametrize("room", TOLD)
def test_one_is_never_said_with_a_plural(room):
    package = Path(unite.__file__).parent
    found = [each for path in sorted((package / room).glob("*.py")) for each in glued_plurals(path)]
    assert not found, "use unite.words.count: " + ", ".join(found)


def test_what_brings_a_missing_package_is_said_in_one_place():
    assert brings() == "pip install -e . in the folder of the project brings it"
    assert 'pip install -e ".[chem,chem-parity]" in' in brings("chem-parity", "chem", "chem")
    package = Path(unite.__file__).parent
    texts = {
        path.relative_to(package).as_posix(): path.read_text() for path in package.rglob("*.py")
    }
    assert [name for name, text in texts.items() if "pip install" in text] == ["words.py"]
    named = set(re.findall(r"brings\(['\"]([\w-]+)", "".join(texts.values())))
    project = tomllib.loads((package.parents[1] / "pyproject.toml").read_text())["project"]
    assert {"test"} <= named <= set(project["optional-dependencies"])
