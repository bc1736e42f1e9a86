"""The course of a command that trains, once its run is prepared: plan, training, results."""

from __future__ import annotations

from collections.abc import Sequence

from unite.drivers.plan import dry_run, print_plan
from unite.drivers.train import launch, print_report
from unite.entry import STOPPED
from unite.training.closing_report import build_report
from unite.training.finished import stopped_line
from unite.training.runs import Run


def carry_out(run: Run, *, dry: bool, notes: Sequence[str] = ()) -> int:
    """Show the plan with its notes, then train and show the results; returns the exit code.

    With `dry`, check what a start would check instead, and start nothing.
    """
    print_plan(run)
    for note in notes:
        print(note)
    if dry:
        dry_run(run)
        return 0
    summary = launch(run)
    if summary["stopped"]:
        print(stopped_line(run, summary["images"]))
        return STOPPED
    print_report(run, build_report(run), summary["seconds"])
    return 0
