"""Readers of many ranks: python benchmarks/readers.py --data DIR

Headline metrics, each the worst of 64 ranks that read ImageNet's 1,281,167 rows in batches of
1,024: bytes read in an epoch / bytes of the rank's share (goal: at most 1.05), compressed bytes
that a rank reads before its first batch, growth of its process by then, and seconds from opening
its stream to that batch. The second arm is a run whose lanes are no multiple of its workers (16, as
it may have begun with fewer).

All ranks are played by one process, one after the other, each as alone on its machine: a machine of
eight ranks has more cores than this one. Shards are links to a few real ones, so files come from
the page cache: a store's latency is not measured.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import psutil
import pyarrow as pa
import tyro
from stream import CORES, SIZE, prepare, repeat_tree

from unite.config.schema import DataConfig, ImagesConfig
from unite.data.loader import BatchStream, read_in_threads
from unite.data.manifest import Shard, write_manifest
from unite.data.order import Read, SampleOrder
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES
from unite.storage import Store

COLUMNS = ("lanes", "ranks", "rows", "read / share", "before, MiB", "memory, MiB", "median, s", "s")


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    data: str
    """Tree of class folders with images, of which shards are made."""
    rows: int = 1_281_167
    """Rows of the set; rounded up to whole shards."""
    real_rows: int = 2_560
    """Rows that are really prepared."""
    ranks: int = 64
    batch: int = 1_024
    """Rows of all ranks' batch."""
    lanes: tuple[int, ...] = (64, 16)
    """Lanes of the arms."""


@dataclass(frozen=True)
class First:
    """Cost of a rank's first batch."""

    read_bytes: int
    """Compressed bytes that had been read."""
    memory_bytes: int
    """Growth of the process."""
    seconds: float


def large_set(made: ShardSet, folder: Path, rows: int) -> ShardSet:
    """A prepared folder of so many rows, whose shards are links to those made, in turn."""
    assert made.manifest is not None
    shards: list[Shard] = []
    folder.mkdir()
    for shard in itertools.cycle(made.manifest.shards):
        if sum(each.num_rows for each in shards) >= rows:
            break
        shards.append(replace(shard, file=f"train-{len(shards):05d}.parquet"))
        os.link(Path(made.uri) / shard.file, folder / shards[-1].file)
    manifest = replace(made.manifest, shards=tuple(shards))
    write_manifest(Store.open(folder), {"train": manifest})
    return ShardSet.open(str(folder), "train", IMAGES)


def read_share(shards: ShardSet, config: DataConfig, rank: int, ranks: int) -> float:
    """Bytes that a rank reads in an epoch / bytes of its share; a row group is read whole."""
    counts = [group.num_rows for group in shards.row_groups]
    order = SampleOrder(counts, seed=0, lanes=config.lanes, window=config.shuffle_window)
    total = sum(group.bytes for group in shards.row_groups)
    own = 0
    for read in order.reads(rank=rank, world=ranks, samples_seen=0):
        if read.epoch:
            break
        own += shards.row_groups[read.group].bytes
    return own * ranks / total


def first_batch(shards: ShardSet, config: DataConfig, rank: int, options: Options) -> First:
    """Open a rank's stream as training does and take its first batch."""
    read_bytes, process = 0, psutil.Process()

    def counted(shards: ShardSet, reads: Iterator[Read]) -> Iterator[pa.Table]:
        """Tables on their way to the stream."""
        nonlocal read_bytes
        for table in read_in_threads(shards, reads):
            read_bytes += table.nbytes
            yield table

    before, started = process.memory_info().rss, time.perf_counter()
    stream = BatchStream(
        shards,
        build_domain(ImagesConfig(size=SIZE)),
        config,
        batch_size=options.batch,
        seed=0,
        rank=rank,
        world=options.ranks,
        reader=counted,
    )
    try:
        next(stream)
        seconds = time.perf_counter() - started
        return First(read_bytes, process.memory_info().rss - before, seconds)
    finally:
        stream.close()


def row(shards: ShardSet, lanes: int, options: Options) -> str:
    """Measure all ranks of an arm."""
    config = DataConfig(train=shards.uri, lanes=lanes, decode_threads=CORES)
    shares = [read_share(shards, config, rank, options.ranks) for rank in range(options.ranks)]
    firsts = [first_batch(shards, config, rank, options) for rank in range(options.ranks)]
    seconds = [first.seconds for first in firsts]
    read, memory = (
        max(getattr(first, name) for first in firsts) / 2**20
        for name in ("read_bytes", "memory_bytes")
    )
    return (
        f"| {lanes} | {options.ranks} | {shards.num_rows:,} | {max(shares):.3f} | {read:.1f} "
        f"| {memory:.0f} | {statistics.median(seconds):.2f} | {max(seconds):.2f} |"
    )


def main(options: Options) -> None:
    """Make the set, play all ranks, print a table."""
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    with tempfile.TemporaryDirectory(prefix="readers-") as place:
        tree = repeat_tree(Path(options.data), Path(place) / "tree", options.real_rows)
        made = prepare(tree, Path(place) / "made", original=False)
        shards = large_set(made, Path(place) / "large", options.rows)
        for lanes in options.lanes:
            print(row(shards, lanes, options))


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
