"""Printed results of a job, kept for when its command is typed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from unite import terminal
from unite.finished import Record
from unite.storage import Store


@contextmanager
def kept(record: Record | None) -> Iterator[Callable[[Sequence[Store], Store], None]]:
    """Context that keeps what is printed in it, once it ends without an error.

    It gives a function by which work says that it is whole: the files that it left, and what to
    delete for doing it again. Without that call no record is made.
    """
    whole: list[tuple[Sequence[Store], Store]] = []
    with terminal.copied() as lines:
        yield lambda left, again: whole.append((left, again))
    if record is not None:
        for left, again in whole:
            record.keep(lines, left, again)
