"""The course of a command that trains: what it shows, starts and returns."""

from __future__ import annotations

import pytest

from unite.config.recipes import recipe
from unite.drivers import command
from unite.entry import STOPPED
from unite.storage import Store
from unite.training.runs import Run


@pytest.fixture
def done(monkeypatch) -> list[str]:
    """Names of the steps, in the order in which they were taken."""
    taken: list[str] = []
    for name in ("print_plan", "dry_run", "build_report", "print_report"):
        monkeypatch.setattr(command, name, lambda *_, name=name: taken.append(name))
    return taken


@pytest.fixture
def run(tmp_path) -> Run:
    return Run(config=recipe("smoke"), folder=Store.open(tmp_path))


def launched(monkeypatch, done, *, stopped: bool) -> None:
    summary = {"stopped": stopped, "images": 1, "seconds": 2.0}
    monkeypatch.setattr(command, "launch", lambda run: done.append("launch") or summary)


def test_a_run_is_planned_trained_and_reported(run, done, monkeypatch, capsys):
    launched(monkeypatch, done, stopped=False)
    assert command.carry_out(run, dry=False, notes=["parent: p"]) == 0
    assert done == ["print_plan", "launch", "build_report", "print_report"]
    assert capsys.readouterr().out == "parent: p\n"


def test_a_stopped_run_says_how_to_go_on(run, done, monkeypatch, capsys):
    launched(monkeypatch, done, stopped=True)
    assert command.carry_out(run, dry=False) == STOPPED
    assert done == ["print_plan", "launch"]
    assert capsys.readouterr().out == "stopped after 1 image; the same command continues\n"


def test_a_dry_run_starts_nothing(run, done, monkeypatch):
    launched(monkeypatch, done, stopped=False)
    assert command.carry_out(run, dry=True) == 0
    assert done == ["print_plan", "dry_run"]
