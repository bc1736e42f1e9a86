"""The reader of `unite.data.loader.BatchStream` that Ray Data runs: compressed rows, in order.

Ray 2.60 has no resumable iterator, so the plan of reads is ours and Ray Data executes it: each rank
turns its reads, from its cursor on, into pipelines of tasks that read row groups anywhere in the
cluster and send compressed bytes through the object store. Nothing global is to be recovered.

A pipeline is as long as its bytes allow (of several epochs when the set is small), because starting
one costs 0.1 s or more, and no longer: its tasks run ahead of training into the object store, and
while Ray Data 2.60 waits for room there its scheduler spins, at the cost of half a core. The next
pipeline starts while tables of the last one still wait. The first rows are read by the rank itself,
because Ray's worker processes take seconds to start.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from itertools import chain, groupby
from typing import Any

import pyarrow as pa
import ray
from ray.data import DataContext, ExecutionResources
from ray.exceptions import RayTaskError

from unite.cluster.labels import preferred
from unite.cluster.resources import STREAM_BYTES
from unite.data.loader import read_in_threads
from unite.data.order import Read
from unite.data.parquet import UnreachableError
from unite.data.prefetch import Prefetch
from unite.data.shards import RowGroup, ShardError, ShardSet, read_rows
from unite.domains.columns import Columns
from unite.storage import StorageError

HEAD_ROWS = 16_384
"""Rows that this process reads while Ray Data's workers start: the first batch need not wait."""
ROWS_PER_PIPELINE = 65_536
BYTES_PER_PIPELINE = STREAM_BYTES // 4
"""Largest number of compressed bytes that a rank keeps in the object store. Ray Data plans with
STREAM_BYTES: it reserves parts of them, and must never wait for room."""
ROWS_PER_TASK = 1024
BLOCK_BYTES = 32 * 2**20
TASKS = 2
"""Tasks of a pipeline at a time. They ask for no CPU: what workers leave of a node is shared among
all pipelines of the cluster in whole CPUs (`share = amount // pipelines` in Ray 2.60), and one that
gets none has no room for its tables."""
TABLES_AHEAD = 16


def ray_reader(
    shards: ShardSet, reads: Iterator[Read], *, head_rows: int = HEAD_ROWS
) -> Iterator[pa.Table]:
    """Answer `reads` in order through Ray Data; needs an initialised Ray. Close it when done.

    This process itself reads what the first batches need, at least `head_rows` rows (0: nothing).
    Raises ShardError when a shard cannot be read.
    """
    quiet()
    return Prefetch(_answers(shards, reads, head_rows), depth=1)


def quiet() -> None:
    """Keep Ray Data's plans and its remarks on progress bars out of the logs."""
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    logging.getLogger("ray.data._internal.progress").setLevel(logging.ERROR)


def _answers(shards: ShardSet, reads: Iterator[Read], head_rows: int) -> Iterator[pa.Table]:
    head, reads = _split_head(reads, head_rows)
    pipelines = (_regroup(_run(shards, part), part) for part in _pipelines(shards, reads))
    rest = Prefetch(chain.from_iterable(pipelines), depth=TABLES_AHEAD)
    try:
        yield from read_in_threads(shards, head)
        yield from rest
    finally:
        rest.close()


def _split_head(reads: Iterator[Read], head_rows: int) -> tuple[list[Read], Iterator[Read]]:
    """Reads that the first batches need, and the rest.

    A lane resumes in either of two windows, so that two rounds over all lanes are needed; small
    windows and small sets have rounds of few rows.
    """
    if head_rows == 0:
        return [], reads
    head: list[Read] = []
    rows = 0
    rounds = groupby(reads, key=lambda read: (read.epoch, read.window))
    for count, (_, part) in enumerate(rounds, start=1):
        for read in part:
            head.append(read)
            rows += read.num_rows
        if count >= 2 and rows >= head_rows:
            break
    return head, chain.from_iterable(part for _, part in rounds)


def _pipelines(shards: ShardSet, reads: Iterator[Read]) -> Iterator[list[Read]]:
    """Cut the endless plan where either limit of a pipeline is reached."""
    pipeline: list[Read] = []
    rows, size = 0, 0
    for read in reads:
        pipeline.append(read)
        rows += read.num_rows
        group = shards.row_groups[read.group]
        size += group.bytes * read.num_rows // group.num_rows
        if rows >= ROWS_PER_PIPELINE or size >= BYTES_PER_PIPELINE:
            yield pipeline
            pipeline, rows, size = [], 0, 0


def _run(shards: ShardSet, reads: list[Read]) -> Iterator[pa.Table]:
    """Execute reads as a Ray Data pipeline; tables come in order but with boundaries of its own."""
    items = [
        {**asdict(shards.row_groups[read.group]), "start": read.start, "stop": read.stop}
        for read in reads
    ]
    rows = sum(read.num_rows for read in reads)
    with DataContext.current(_context()):
        dataset = ray.data.from_items(
            items, override_num_blocks=max(1, min(len(items), rows // ROWS_PER_TASK))
        ).map_batches(
            partial(_read_items, uri=shards.uri, columns=shards.columns),
            batch_size=None,
            batch_format="pyarrow",
            num_cpus=0,
            concurrency=TASKS,
            **preferred("decode"),
        )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=2)
    except RayTaskError as error:
        raise own_error(error) from error


def _read_items(items: pa.Table, *, uri: str, columns: Columns) -> Iterator[pa.Table]:
    for item in items.to_pylist():
        start, stop = item.pop("start"), item.pop("stop")
        yield read_rows(uri, columns, RowGroup(**item), start, stop)


def _context() -> DataContext:
    """Context of Ray Data: ordered, quiet, bounded, without the slow parquet reader of Ray 2.60."""
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.use_datasource_v2 = False
    context.target_max_block_size = BLOCK_BYTES
    context.execution_options.preserve_order = True
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=STREAM_BYTES)
    return context


def _regroup(tables: Iterator[pa.Table], reads: list[Read]) -> Iterator[pa.Table]:
    """Cut a stream of tables so that each read gets one table of its own rows."""
    rest: pa.Table | None = None
    for read in reads:
        while rest is None or rest.num_rows < read.num_rows:
            table = next(tables)
            rest = table if rest is None else pa.concat_tables([rest, table])
        yield rest.slice(0, read.num_rows)
        rest = rest.slice(read.num_rows)


def own_error(error: BaseException) -> BaseException:
    """The error of this package that a task raised, without Ray's wrapping, or `error` itself.

    Ray keeps the cause only of functions that are generators.
    """
    inner: Any = error
    while inner is not None and type(inner) not in (ShardError, StorageError, UnreachableError):
        inner = getattr(inner, "cause", None) or inner.__cause__
    return error if inner is None else type(inner)(str(inner).partition("\nFailed to apply UDF")[0])
