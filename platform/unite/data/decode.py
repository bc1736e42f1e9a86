"""Decode picked rows in a pool of threads, and replace the bad ones.

A row that cannot be decoded is replaced by the next good one of its window, else of its row group
or the following one, so that a batch depends neither on the number of workers nor on timing. It
keeps its own row id and is counted.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from unite.data.bad_rows import BadDataError
from unite.data.shards import ROW_ID, ShardSet
from unite.domains.base import Domain
from unite.domains.columns import names_of


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Decoded samples: global row ids and epochs, int64 (B,), and the domain's arrays (B, ...)."""

    rows_B: np.ndarray
    epochs_B: np.ndarray
    fields: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.rows_B)


class Window:
    """Rows of a lane that are shuffled together; `order` is the shuffle."""

    def __init__(self, columns: dict[str, list[Any]], order: np.ndarray) -> None:
        self.columns = columns
        self.order: list[int] = order.tolist()

    def __len__(self) -> int:
        return len(self.order)

    def value(self, column: str, offset: int) -> Any:
        """A column of the row at an offset of the shuffled window."""
        return self.columns[column][self.order[offset % len(self)]]


class Pick(NamedTuple):
    """A sample: an offset in a shuffled window."""

    window: Window
    offset: int


@dataclass
class Pending:
    """A batch in the making: tasks fill `fields` in place, one slice each."""

    rows_B: np.ndarray
    epochs_B: np.ndarray
    fields: dict[str, np.ndarray] = field(default_factory=dict)
    bad: list[tuple[int, str]] = field(default_factory=list)
    tasks: list[Future[None]] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def fill(self, start: int, fields: dict[str, np.ndarray], bad: list[tuple[int, str]]) -> None:
        """Store the rows start.. and their bad ones; called from the tasks."""
        with self.lock:
            self.bad.extend(bad)
            for name, values in fields.items():
                if name not in self.fields:
                    shape = (len(self.rows_B), *values.shape[1:])
                    self.fields[name] = np.empty(shape, values.dtype)
        for name, values in fields.items():
            self.fields[name][start : start + len(values)] = values

    def result(self) -> Batch:
        """The batch, once all tasks are done; raises what a task raised."""
        for task in self.tasks:
            task.result()
        return Batch(rows_B=self.rows_B, epochs_B=self.epochs_B, fields=self.fields)


class Decoder:
    """Decodes picked rows in a pool of threads; the codecs release the interpreter lock."""

    def __init__(
        self, domain: Domain, num_threads: int = 0, *, shards: ShardSet | None = None
    ) -> None:
        """`num_threads` 0 = one per usable core; `shards` are those of the rows, which stand for
        bad ones. Without them bad rows stay zeros."""
        self._domain = domain
        self._shards = shards
        self.num_threads = num_threads or usable_cores()
        self._pool = ThreadPoolExecutor(self.num_threads, thread_name_prefix="decode")

    def submit(self, picks: list[Pick], epochs_B: np.ndarray) -> Pending:
        """Start decoding a batch."""
        rows = [window.value(ROW_ID, offset) for window, offset in picks]
        pending = Pending(np.asarray(rows, dtype=np.int64), epochs_B)
        size = min(self._domain.rows_per_task, -(-len(picks) // self.num_threads))
        for start in range(0, len(picks), size):
            part = picks[start : start + size]
            pending.tasks.append(self._pool.submit(self._decode, pending, start, part))
        return pending

    def close(self) -> None:
        """Drop tasks that have not begun and end the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _decode(self, pending: Pending, start: int, picks: list[Pick]) -> None:
        fields, bad = self._domain.decode_rows(self._columns(picks))
        if self._shards is not None:
            for position, reason in bad:
                good = self._substitute(picks[position], reason, self._shards)
                for name, values in fields.items():
                    values[position] = good[name][0]
        pending.fill(start, fields, [(int(pending.rows_B[start + p]), why) for p, why in bad])

    def _substitute(self, bad: Pick, reason: str, shards: ShardSet) -> dict[str, np.ndarray]:
        """The decoded first good row of those that may stand; `reason` is that of the bad one."""
        for spare in _spares(bad, shards):
            fields, failed = self._domain.decode_rows(self._columns([spare]))
            if not failed:
                return fields
            reason = failed[0][1]
        raise BadDataError(
            f"row {bad.window.value(ROW_ID, bad.offset)} is bad, and so are all of the other rows "
            "of its shuffled window, its row group and the following one that could stand for it "
            f"(the last: {reason}); repair these rows in data.train, or take them out"
        )

    def _columns(self, picks: list[Pick]) -> dict[str, list[Any]]:
        return {
            name: [window.value(name, offset) for window, offset in picks]
            for name in names_of(self._domain.columns)
        }


def _spares(bad: Pick, shards: ShardSet) -> Iterator[Pick]:
    """Rows that may stand for a bad one: the window's next ones, cyclically, then those of its row
    group, cyclically, and of the following one, which are read when it comes to them."""
    yield from (Pick(bad.window, bad.offset + step) for step in range(1, len(bad.window)))
    groups, row = shards.row_groups, bad.window.value(ROW_ID, bad.offset)
    own = bisect_right(groups, row, key=lambda group: group.first_row) - 1
    for number in dict.fromkeys((own, (own + 1) % len(groups))):
        if not groups[number].num_rows:
            continue  # its columns may have no type, and could not be read
        columns = shards.read(number).to_pydict()
        window = Window(columns, np.arange(groups[number].num_rows))
        first = row + 1 - groups[own].first_row if number == own else 0
        yield from (Pick(window, first + step) for step in range(len(window)))


def usable_cores() -> int:
    """Cores that this process may use, its share of them when it is one of several local ranks."""
    return max(1, len(os.sched_getaffinity(0)) // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
