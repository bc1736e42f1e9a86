"""Opening of a large data set: python benchmarks/open_shards.py [--shards 1000 --rows 10000]

Headline metrics: seconds to open 1,000 shards of 10 million rows by their manifest (0.3 s on two
shared cores, 2026-11-27), and seconds until one of 64 ranks knows its first read. No shard is read,
so the files are empty of content: sparse, of the size that the manifest says.

Arms, in one run: a tenth of the shards, and all of them. Time must grow no faster than their
number.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro

from unite.data.manifest import Shard, SplitManifest, write_manifest
from unite.data.order import SampleOrder
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES, names_of
from unite.storage import Store

ROWS_PER_GROUP = 256
SHARD_BYTES = 100 * 2**20
RANKS = 64
WINDOW = 2048
"""Rows that a lane shuffles."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    shards: int = 1_000
    """Shards of the large set."""
    rows: int = 10_000
    """Rows of a shard."""


def write_set(folder: Path, shards: int, rows: int) -> None:
    """A prepared folder whose shards hold nothing."""
    whole, rest = divmod(rows, ROWS_PER_GROUP)
    groups = (*[ROWS_PER_GROUP] * whole, *([rest] if rest else []))
    names = [f"train-{number:05d}.parquet" for number in range(shards)]
    folder.mkdir()
    for name in names:
        with (folder / name).open("wb") as file:
            file.truncate(SHARD_BYTES)
    manifest = SplitManifest(
        shards=tuple(
            Shard(file=name, row_groups=groups, bytes=SHARD_BYTES, sha256="0" * 64)
            for name in names
        ),
        columns=names_of(IMAGES),
        class_names=None,
        skipped={},
        preparation={},
    )
    write_manifest(Store.open(folder), {"train": manifest})


def measure(folder: Path) -> tuple[int, float, float]:
    """Rows, seconds to open the set, seconds until the last rank has its first read."""
    began = time.monotonic()
    shards = ShardSet.open(str(folder), "train", IMAGES)
    opened = time.monotonic()
    counts = [group.num_rows for group in shards.row_groups]
    order = SampleOrder(counts, seed=0, lanes=RANKS, window=WINDOW)
    next(order.reads(rank=RANKS - 1, world=RANKS, samples_seen=0))
    return shards.num_rows, opened - began, time.monotonic() - opened


def main(options: Options) -> None:
    """Measure both sets and print a table."""
    print("| shards | rows | open, s | first read, s |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as place:
        for shards in (max(options.shards // 10, 1), options.shards):
            folder = Path(place) / str(shards)
            write_set(folder, shards, options.rows)
            rows, opened, planned = measure(folder)
            print(f"| {shards:,} | {rows:,} | {opened:.2f} | {planned:.2f} |")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
