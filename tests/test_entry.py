"""Every command ends with one clear line and an exit code, whatever is raised in it."""

import ast
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from unite.checkpoints.store import CheckpointError
from unite.entry import run

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path for room in ("jobs", "ablations", "dashboards") for path in (ROOT / room).glob("*.py")
)
LIGHT = {"sys", "pathlib", "unite.entry"}


def raising(error: BaseException):
    def fail(*args, **kwargs):
        raise error

    return fail


def own_mistake():
    from unite.config.recipes import recipe

    recipe("nonsense")


def a_bug_of_ours():
    from unite.words import count

    count(None, "image")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_any_error_leaves_a_script_as_one_line_that_names_the_traceback(
    script, monkeypatch, capsys, log
):
    monkeypatch.setattr("tyro.cli", raising(KeyError("latent/std")))
    monkeypatch.setattr(sys, "argv", [str(script)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    (file,) = re.findall(r"^error: KeyError: 'latent/std' \(.* the traceback is in (.*)\)$", line)
    assert Path(file).parent == log and script.stem in Path(file).name
    assert "Traceback (most recent call last)" in Path(file).read_text()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_ctrl_c_leaves_a_script_with_130(script, monkeypatch, capsys, log):
    monkeypatch.setattr("tyro.cli", raising(KeyboardInterrupt()))
    monkeypatch.setattr(sys, "argv", [str(script)])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 130
    told = capsys.readouterr().err
    assert told.strip() and "Traceback" not in told
    assert not log.exists()


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_imports_nothing_before_errors_are_caught(script):
    tops = ast.parse(script.read_text()).body
    names = {each.name for node in tops if isinstance(node, ast.Import) for each in node.names}
    names |= {node.module for node in tops if isinstance(node, ast.ImportFrom)}
    assert names <= LIGHT


def test_the_unite_command_has_the_same_way_out(monkeypatch, capsys, log):
    from unite import cli

    monkeypatch.setattr(cli.app, "cli", raising(TypeError("no")))
    with pytest.raises(SystemExit) as end:
        cli.main(["recipes"])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: TypeError: no (unexpected; the traceback")


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (own_mistake, "unknown recipe 'nonsense'"),
        (raising(CheckpointError("no checkpoint")), "no checkpoint"),
    ],
)
def test_a_foreseen_error_says_itself_and_needs_no_traceback(work, words, capsys, log):
    assert run(work) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and words in told and "traceback" not in told
    assert not log.exists()


@pytest.mark.parametrize(
    "work",
    [
        lambda: int("three"),
        lambda: Path("/nowhere/at/all").read_text(),
        a_bug_of_ours,
        raising(MemoryError()),
        raising(RuntimeError("two\nlines")),
    ],
)
def test_other_errors_have_their_type_in_one_line(work, capsys, log):
    assert run(work) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(r"error: \w+Error.*traceback is in", line)
    assert len(list(log.iterdir())) == 1


def test_a_missing_dependency_names_the_environment(capsys, log):
    assert run(raising(ModuleNotFoundError("No module named 'torch'"))) == 2
    assert "error: No module named 'torch': activate the environment" in capsys.readouterr().err


def test_success_is_0_or_what_the_work_returns():
    assert run(lambda: None) == 0
    assert run(lambda: 1) == 1


def test_a_reader_that_goes_away_is_met_in_silence():
    script = "from unite.entry import run; import sys; sys.exit(run(lambda: print('x' * 10**6)))"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-c", script], stdout=writing, stderr=subprocess.PIPE, text=True
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_broken_connection_is_no_reader_that_went_away(capsys, log):
    assert run(raising(BrokenPipeError("the server hung up"))) == 2
    assert "BrokenPipeError: the server hung up" in capsys.readouterr().err
