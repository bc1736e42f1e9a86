"""The stream of decoded batches: compressed rows in, uint8 arrays out, decoded late on all cores.

`SampleOrder` says what to read; a reader turns reads into tables of compressed rows, in order; the
rows of a lane wait in shuffled windows; batches are picked from them and decoded in a thread pool,
a few batches ahead of the consumer. The position is one integer, the samples seen by all ranks.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from unite.config.schema import DataConfig
from unite.data.bad_rows import BadRowList, BadRows
from unite.data.decode import Batch, Decoder, Pending, Pick, Window
from unite.data.order import Read, SampleOrder
from unite.data.prefetch import Prefetch
from unite.data.shards import ROW_ID, ShardSet
from unite.domains.base import Domain
from unite.domains.columns import names_of

Reader = Callable[[ShardSet, Iterator[Read]], Iterator[pa.Table]]
"""Function that answers each read, in order, with a table of the set's columns and ROW_ID."""

READ_AHEAD = 8
BATCHES_AHEAD = 3

log = logging.getLogger(__name__)


def local_reader(shards: ShardSet, reads: Iterator[Read]) -> Iterator[pa.Table]:
    """Read in threads of this process, `READ_AHEAD` row groups at once. Close it when done."""
    return Prefetch(read_in_threads(shards, reads), depth=1)


def read_in_threads(shards: ShardSet, reads: Iterable[Read]) -> Iterator[pa.Table]:
    """Answer reads in order, `READ_AHEAD` of them in flight to hide a network's latency."""
    with ThreadPoolExecutor(READ_AHEAD, thread_name_prefix="read") as pool:
        running: deque[Future[pa.Table]] = deque()
        for read in reads:
            running.append(pool.submit(shards.read, read.group, read.start, read.stop))
            if len(running) == READ_AHEAD:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()


class BatchStream:
    """An endless iterator of one rank's share of each global batch; close it when done.

    Batch s holds the samples images_seen + [s B, (s + 1) B) that belong to the rank; batches
    straddle epochs and no row is dropped. `wait_seconds` is the time spent waiting in `next`, `bad`
    counts the rows that were replaced. Raises BadDataError above `config.max_bad_fraction` bad
    rows, ShardError or UnreachableError when a shard cannot be read.
    """

    def __init__(
        self,
        shards: ShardSet,
        domain: Domain,
        config: DataConfig,
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        images_seen: int = 0,
        reader: Reader = local_reader,
        bad_rows: BadRowList | None = None,
    ) -> None:
        """`batch_size` is global (all ranks) and must be divisible by `world`.

        `bad_rows` is this rank's part of the run's list of bad rows, if one is kept.
        """
        if batch_size % world:
            raise ValueError(
                f"training.batch_size = {batch_size} must be divisible by the {world} workers"
            )
        if config.lanes % world:
            log.warning(
                "data.lanes = %d is not a multiple of the %d workers: they read rows that they do "
                "not use; set data.lanes to a multiple when starting a new run",
                config.lanes,
                world,
            )
        self.wait_seconds = 0.0
        self.bad = BadRows(shards.uri, config.max_bad_fraction, bad_rows)
        self._decoder = Decoder(domain, config.decode_threads, shards=shards)
        windows = LaneWindows(shards, config, seed, rank, world, images_seen, reader)
        samples = _shares(images_seen, batch_size, rank, world)
        self._pending = Prefetch(self._submit(windows, samples), depth=BATCHES_AHEAD)

    def __iter__(self) -> BatchStream:
        return self

    def __next__(self) -> Batch:
        started = time.perf_counter()
        try:
            pending = next(self._pending)
            batch = pending.result()
        finally:
            self.wait_seconds += time.perf_counter() - started
        self.bad.add(len(batch), pending.bad)
        return batch

    def close(self) -> None:
        """End the threads; the batches made ahead are dropped."""
        self._pending.close()
        self._decoder.close()
        self.bad.close()

    def _submit(self, windows: LaneWindows, samples: Iterator[np.ndarray]) -> Iterator[Pending]:
        try:
            for share in samples:
                picks = windows.pick(share)
                yield self._decoder.submit(picks, share // windows.order.num_rows)
        finally:
            windows.close()


class LaneWindows:
    """The current window of each of a rank's lanes, filled from the reader as samples need it."""

    def __init__(
        self,
        shards: ShardSet,
        config: DataConfig,
        seed: int,
        rank: int,
        world: int,
        samples_seen: int,
        reader: Reader,
    ) -> None:
        counts = [group.num_rows for group in shards.row_groups]
        self.order = SampleOrder(
            counts, seed=seed, lanes=config.lanes, window=config.shuffle_window
        )
        self._columns = (*names_of(shards.columns), ROW_ID)
        plan = {"rank": rank, "world": world, "samples_seen": samples_seen}
        self._reads = self.order.reads(**plan)
        self._tables = reader(shards, self.order.reads(**plan))
        self._buffers: dict[tuple[int, int], _LaneBuffer] = {}
        self._current: dict[int, tuple[tuple[int, int], Window]] = {}

    def pick(self, samples: np.ndarray) -> list[Pick]:
        """The picks of ascending samples, each later than those of the call before."""
        places = self.order.places(samples)
        return [
            Pick(self._window(epoch, lane, window), offset)
            for epoch, lane, window, offset in zip(*(p.tolist() for p in places), strict=True)
        ]

    def close(self) -> None:
        """End the reader."""
        getattr(self._tables, "close", lambda: None)()

    def _window(self, epoch: int, lane: int, number: int) -> Window:
        key, window = self._current.get(lane, (None, None))
        if window is None or key != (epoch, number):
            window = self._fill(epoch, lane, number)
            self._current[lane] = ((epoch, number), window)
        return window

    def _fill(self, epoch: int, lane: int, number: int) -> Window:
        begin, end = self.order.window_bounds(lane, number)
        while (buffer := self._buffers.get((epoch, lane))) is None or buffer.end < end:
            self._receive()
        columns = buffer.take(begin, end)
        self._buffers = {key: kept for key, kept in self._buffers.items() if key[0] >= epoch}
        return Window(columns, self.order.window_permutation(epoch, lane, number))

    def _receive(self) -> None:
        read, table = next(self._reads), next(self._tables)
        expected = int(self.order.first_rows[read.group]) + read.start
        if table.num_rows != read.num_rows or table.column(ROW_ID)[0].as_py() != expected:
            raise RuntimeError(
                f"the reader answered out of order: expected {read.num_rows} rows from {expected}"
            )
        key = (read.epoch, read.lane)
        if key not in self._buffers:
            empty: dict[str, list[Any]] = {name: [] for name in self._columns}
            self._buffers[key] = _LaneBuffer(begin=read.index, columns=empty)
        self._buffers[key].append(table)


@dataclass
class _LaneBuffer:
    """Rows of a lane from index `begin` on, in reading order."""

    begin: int
    columns: dict[str, list[Any]]

    @property
    def end(self) -> int:
        return self.begin + len(self.columns[ROW_ID])

    def append(self, table: pa.Table) -> None:
        for name, values in self.columns.items():
            values.extend(table.column(name).to_pylist())

    def take(self, begin: int, end: int) -> dict[str, list[Any]]:
        """Rows begin..end; they and all before them leave the buffer."""
        taken = {
            name: values[begin - self.begin : end - self.begin]
            for name, values in self.columns.items()
        }
        for values in self.columns.values():
            del values[: end - self.begin]
        self.begin = end
        return taken


def sequential_batches(
    shards: ShardSet,
    domain: Domain,
    *,
    batch_size: int,
    rank: int = 0,
    world: int = 1,
    limit: int | None = None,
    decode_threads: int = 0,
    max_bad_fraction: float = 0.01,
) -> Iterator[Batch]:
    """The first `limit` rows in file order, decoded, in batches of at most `batch_size` per rank.

    Ranks take contiguous, nearly equal ranges; the last batch may be short. Bad rows are left out
    and logged, so a batch holds len(batch) valid rows; too many raise BadDataError. Epochs are 0.
    """
    total = shards.num_rows if limit is None else min(limit, shards.num_rows)
    begin, end = total * rank // world, total * (rank + 1) // world
    decoder = Decoder(domain, decode_threads)
    parts = _sequential_picks(shards, begin, end, batch_size)
    batches = Prefetch(
        (decoder.submit(picks, np.zeros(len(picks), dtype=np.int64)) for picks in parts),
        depth=BATCHES_AHEAD,
    )
    bad = BadRows(shards.uri, max_bad_fraction)
    try:
        for pending in batches:
            batch = pending.result()
            bad.add(len(batch), pending.bad)
            yield _without(batch, [row for row, _ in pending.bad])
    finally:
        batches.close()
        decoder.close()


def _sequential_picks(
    shards: ShardSet, begin: int, end: int, batch_size: int
) -> Iterator[list[Pick]]:
    picks: list[Pick] = []
    for number, group in enumerate(shards.row_groups):
        start, stop = max(begin - group.first_row, 0), min(end - group.first_row, group.num_rows)
        if start >= stop:
            continue
        columns = shards.read(number, start, stop).to_pydict()
        window = Window(columns, np.arange(stop - start))
        picks.extend(Pick(window, offset) for offset in range(stop - start))
        while len(picks) >= batch_size:
            yield picks[:batch_size]
            del picks[:batch_size]
    if picks:
        yield picks


def _without(batch: Batch, bad_rows: list[int]) -> Batch:
    if not bad_rows:
        return batch
    good_B = ~np.isin(batch.rows_B, bad_rows)
    return Batch(
        rows_B=batch.rows_B[good_B],
        epochs_B=batch.epochs_B[good_B],
        fields={name: values[good_B] for name, values in batch.fields.items()},
    )


def _shares(images_seen: int, batch_size: int, rank: int, world: int) -> Iterator[np.ndarray]:
    """The samples of each global batch that belong to a rank, without end."""
    while True:
        first = images_seen + (rank - images_seen) % world
        yield np.arange(first, images_seen + batch_size, world)
        images_seen += batch_size
