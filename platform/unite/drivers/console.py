"""The live progress line of a run, read from its progress file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from unite import terminal, tracking
from unite.storage import Store
from unite.training.finished import Report, keep_report, report_lines
from unite.training.progress import describe_progress, read_progress
from unite.training.runs import Run
from unite.training.timings import WORKERS, Timings
from unite.words import count

POLL_SECONDS = 0.5
PLAIN_SECONDS = 10.0


def follow(run: Run, thread: threading.Thread) -> None:
    """Show progress until the thread ends: a live line in a terminal, else a line every 10 s."""
    show = _follow_live if terminal.console().is_terminal else _follow_plain
    show(_watch(run, thread))


def _watch(run: Run, thread: threading.Thread) -> Iterator[dict[str, Any] | None]:
    """The progress of a run that starts now, every half second until its thread ends."""
    since, ready = time.time(), False
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        progress = read_progress(run.folder)
        fresh = progress if progress and progress["time"] >= since else None
        if fresh is not None and not ready:
            ready = True
            terminal.phase(f"{count(run.config.cluster.num_workers, 'worker')} ready")
            Timings(Store(run.config.storage)).add({WORKERS: time.time() - since})
        yield fresh


def _follow_live(watched: Iterator[dict[str, Any] | None]) -> None:
    # A narrow terminal gets two lines; nothing is cut off.
    text = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    with terminal.progress(BarColumn(bar_width=16), text, TimeElapsedColumn()) as bar:
        task = bar.add_task("starting workers", total=None)
        for progress in watched:
            if progress is not None:
                bar.update(
                    task,
                    description=describe_progress(progress),
                    completed=progress.get("images", 0),
                    total=progress.get("total_images"),
                )


def _follow_plain(watched: Iterator[dict[str, Any] | None]) -> None:
    shown = time.monotonic()
    for progress in watched:
        if time.monotonic() - shown >= PLAIN_SECONDS:
            shown = time.monotonic()
            terminal.tell(describe_progress(progress))


def print_report(run: Run, report: Report, seconds: float) -> None:
    """Print the figures of a finished run and what to do next, and keep them in its folder."""
    uri = run.record.get("mlflow_uri")
    browse = tracking.describe(uri) if run.config.tracking.enabled and uri else ""
    report = replace(report, seconds=seconds, browse=browse)
    keep_report(run, report)
    print("\n".join(report_lines(run, report)))
