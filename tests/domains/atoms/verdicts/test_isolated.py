"""Processes that hang, crash or raise cost their structure and nothing else."""

import os
import signal

import pytest

from unite.domains.atoms.verdicts import isolated
from unite.domains.atoms.verdicts.chemistry import NEEDS, TASKS
from unite.domains.atoms.verdicts.isolated import CRASHED, TIMEOUT, Worker

TOYS = """
import os, time

def double(fields):
    print("a package that prints")
    return {"value": 2 * fields["value"]}

def mixed(fields):
    if fields["value"] == 1:
        while True:
            pass
    if fields["value"] == 2:
        os._exit(3)
    if fields["value"] == 3:
        raise RuntimeError("no such atom")
    return double(fields)

def pid(fields):
    return {"pid": os.getpid()}

def once(fields):
    # Dies where it finds no file, as if somebody had killed it.
    if not os.path.exists(fields["file"]):
        open(fields["file"], "w").close()
        os.kill(os.getpid(), 9)
    return {"value": 7}

TASKS = {"double": double, "mixed": mixed, "pid": pid, "once": once}
"""


@pytest.fixture
def module(tmp_path, monkeypatch) -> str:
    """The name of a module with tasks, as workers import it."""
    (tmp_path / "toy_tasks.py").write_text(TOYS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "toy_tasks"


def test_a_structure_that_hangs_or_crashes_is_an_error_and_the_next_one_is_not(module):
    original, isolated.START_S = isolated.START_S, 0.5
    worker = Worker(0.2, module)
    try:
        found = [worker.ask("mixed", {"value": value}) for value in (0, 1, 5, 2, 6, 3, 7)]
    finally:
        isolated.START_S = original
        worker.close()
    assert [each.get("value") for each in found] == [0, None, 10, None, 12, None, 14]
    assert [found[i]["error"] for i in (1, 3, 5)] == [
        *(TIMEOUT, CRASHED),
        "RuntimeError: no such atom",
    ]


def test_a_process_that_is_killed_costs_no_verdict(module, tmp_path):
    worker = Worker(5.0, module)
    os.kill(worker.ask("pid", {})["pid"], signal.SIGKILL)
    assert worker.ask("double", {"value": 4}) == {"value": 8}
    assert worker.ask("once", {"file": str(tmp_path / "killed")}) == {"value": 7}
    worker.close()


@pytest.mark.parametrize("task", TASKS)
def test_every_task_knows_water(task):
    for name in NEEDS[task]:
        pytest.importorskip(name.removesuffix("-wheel"), reason="needs the extra that has it")
    Worker.of(task).close()


def test_a_package_that_is_there_and_broken_is_no_verdict(tmp_path, monkeypatch):
    """Else a library that a machine lacks would make every molecule invalid."""
    (tmp_path / "rdkit").mkdir()
    (tmp_path / "rdkit" / "__init__.py").write_text("raise ImportError('libXext.so.6 is missing')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(ValueError, match="rdkit cannot be used here: .*water .*libXext.so.6"):
        Worker.of("rdkit")
