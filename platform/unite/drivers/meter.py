"""The progress line of leased work: samples done, images per second, time left."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column

from unite.evaluation.task import Work
from unite.words import clock, count

PLAIN_SECONDS = 10.0


class Meter:
    """Progress of work: a live line in a terminal, else a line every ten seconds.

    The time left is that of the passes through the model that are left, because samples of
    different suites cost differently.
    """

    def __init__(self, title: str, works: Sequence[Work], console: Console) -> None:
        self.title = title
        self.console = console
        self.samples, self.cost = 0, 0.0
        self.total_samples = sum(len(work.chunk) for work in works)
        self.total_cost = sum(work.cost for work in works)
        self.started = self.shown = time.monotonic()
        self.bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.description}", table_column=Column(overflow="fold")),
            console=console,
            transient=True,
            redirect_stderr=False,  # Ray's lines go elsewhere
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task(f"{title}: starting workers", total=self.total_cost)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.bar.stop()
        self.console.print(self.describe(), soft_wrap=True)

    def done(self, work: Work) -> None:
        """Count a finished piece."""
        self.samples += len(work.chunk)
        self.cost += work.cost
        self.bar.update(self.task, completed=self.cost, description=self.describe())
        due = time.monotonic() - self.shown >= PLAIN_SECONDS and self.cost < self.total_cost
        if due and not self.console.is_terminal:
            self.shown = time.monotonic()
            self.console.print(self.describe(), soft_wrap=True)

    def describe(self) -> str:
        """Text of the progress line."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        parts = [f"{self.title}: {self.samples:,}/{count(self.total_samples, 'sample')}"]
        if self.samples:
            parts.append(f"{self.samples / seconds:,.1f} images/s")
        if 0 < self.cost < self.total_cost:
            parts.append(f"ETA {clock(seconds * (self.total_cost / self.cost - 1))}")
        else:
            parts.append(clock(seconds))
        return "  ".join(parts)
