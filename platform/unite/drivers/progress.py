"""The progress line of every job: a live line in a terminal, else a line every ten seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from unite import terminal
from unite.evaluation.suite import WorkItem
from unite.storage import Store
from unite.training.progress import describe_progress, read_progress
from unite.training.runs import Run
from unite.training.timings import WORKERS, Timings
from unite.words import clock, count

POLL_SECONDS = 0.5
PLAIN_SECONDS = 10.0


class Show(Protocol):
    """Function that renews a progress line."""

    def __call__(self, text: str, completed: float, total: float | None = None) -> None:
        """Show a text, and a bar of `completed` out of `total` (None = as before)."""
        ...


@contextmanager
def progress_line(
    text: str, total: float | None = None, *, transient: bool = False
) -> Iterator[Show]:
    """Context with the function that renews the line; `transient` removes it at the end."""
    # A narrow terminal gets two lines; nothing is cut off.
    column = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    shown = time.monotonic()
    with terminal.progress(
        BarColumn(bar_width=16), column, TimeElapsedColumn(), transient=transient
    ) as bar:
        task, whole = bar.add_task(text, total=total), total

        def show(text: str, completed: float, total: float | None = None) -> None:
            """Renew the line; without a terminal, print it every PLAIN_SECONDS."""
            nonlocal shown
            bar.update(task, description=text, completed=completed, total=total)
            if whole is not None and completed >= whole:
                return  # its last line is told by who counts
            if bar.disable and time.monotonic() - shown >= PLAIN_SECONDS:
                shown = time.monotonic()
                terminal.tell(text)

        yield show


@contextmanager
def waiting(text: str) -> Iterator[None]:
    """Context of work that counts nothing: a live line with its time; without a terminal a line
    once it has lasted PLAIN_SECONDS."""
    with progress_line(text, transient=True):
        late = threading.Timer(PLAIN_SECONDS, terminal.tell, (f"{text} ...",))
        if not terminal.console().is_terminal:
            late.start()
        try:
            yield
        finally:
            late.cancel()


def follow_run(run: Run, thread: threading.Thread) -> None:
    """Show the progress of a run that starts now, as its file tells it, until the thread ends.

    The workers write it by a clock of their own, so what is there already is known by its content.
    """
    since, earlier, is_ready = time.monotonic(), read_progress(run.folder), False
    terminal.phase(describe_progress(None))
    with progress_line(describe_progress(None)) as show:
        while thread.is_alive():
            thread.join(POLL_SECONDS)
            progress = read_progress(run.folder)
            if progress in (None, earlier):  # an earlier start's
                continue
            if not is_ready:
                is_ready = True
                terminal.phase(f"{count(progress.get('workers', 1), 'worker')} ready")
                Timings(Store(run.config.storage)).add({WORKERS: time.monotonic() - since})
            show(
                describe_progress(progress),
                progress.get("images", 0),
                progress.get("total_images"),
            )


class Meter:
    """Finished pieces of an evaluation's work, in words.

    The time left is that of the passes through the model that are left, because samples of
    different suites cost differently.
    """

    def __init__(self, title: str, works: Sequence[WorkItem]) -> None:
        self.title = title
        self.pieces, self.samples, self.cost = 0, 0, 0.0
        self.total_pieces = len(works)
        self.total_samples = sum(map(_samples, works))
        self.total_cost = sum(work.cost for work in works)
        self.started = time.monotonic()

    def add(self, work: WorkItem) -> str:
        """Count a finished piece; returns the line."""
        self.pieces += 1
        self.samples += _samples(work)
        self.cost += work.cost
        return self.describe()

    def describe(self) -> str:
        """Text of the progress line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        parts = []
        if self.total_samples:
            parts.append(f"{self.samples:,}/{count(self.total_samples, 'sample')}")
        if self.samples:
            parts.append(f"{self.samples / seconds:,.1f} samples/s")
        if 0 < self.cost < self.total_cost:
            parts.append(f"ETA {clock(seconds * (self.total_cost / self.cost - 1))}")
        else:
            parts.append(clock(seconds))
        return f"{self.title}: " + "  ".join(parts)


def _samples(work: WorkItem) -> int:
    """Samples that a piece of work measures."""
    return len(work.chunk) if work.task.counts_samples else 0
