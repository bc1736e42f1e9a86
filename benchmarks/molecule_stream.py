"""Molecules decoded per second and core: our shards against the same rows as lists of numbers.

    python benchmarks/molecule_stream.py
    python benchmarks/molecule_stream.py --data shards/mp20_subset --recipe mp20-tiny

Headline: rows per CPU second of our shards (at least 20,000), and that over the rows per CPU second
of list columns (at least 3). Both arms read the same molecules of QM9's sizes from parquet in row
groups of 512 through the loader and the domain's decoder, on one thread, and give equal arrays
(checked). CPU seconds of the process count, not those of a clock; the arms take turns and a ratio
divides medians, so that a slow phase of the machine meets both. With `--data` the rows of prepared
shards of any domain are timed the same way: what `unite plan` expects of a core.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import tyro
from molecule_step import batch_of

from unite.config.domains import MoleculesConfig
from unite.config.recipes import recipe
from unite.data.ingest.atoms.molecules import QM9Ingest
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains import Domain, build_domain

ARMS = ("ours", "lists")
BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    rows: int = 20_000
    """Molecules."""
    rounds: int = 3
    """Turns of each arm, after one that is not timed."""
    data: str = ""
    """Prepared shards to time instead."""
    recipe: str = "qm9-tiny"
    """Recipe that trains on them."""


def write_arms(folder: Path, rows: int) -> None:
    """One file of each arm: little-endian bytes as we prepare them, and lists of numbers."""
    fields = batch_of(build_domain(MoleculesConfig()), rows, seed=0)
    sizes = fields["num_atoms"] = np.maximum(fields["num_atoms"], 1)
    numbers = [np.maximum(n[:size], 1) for n, size in zip(fields["numbers"], sizes, strict=True)]
    positions = [p[:size].ravel() for p, size in zip(fields["positions"], sizes, strict=True)]
    ids = [str(row) for row in range(rows)]
    common = {"id": ids, "num_atoms": sizes.astype(np.int32)}
    ours = {
        "numbers": [n.tobytes() for n in numbers],
        "positions": [p.tobytes() for p in positions],
    }
    lists = {
        "numbers": pa.array(numbers, pa.list_(pa.uint8())),
        "positions": pa.array(positions, pa.list_(pa.float32())),
    }
    for arm, columns, kept in (("ours", ours, dict(QM9Ingest.parquet)), ("lists", lists, {})):
        (folder / arm).mkdir()
        table = pa.table({**common, **columns})
        pq.write_table(table, folder / arm / "train-0.parquet", row_group_size=BATCH, **kept)


def decode_all(folder: str, domain: Domain) -> tuple[float, list[dict[str, np.ndarray]]]:
    """CPU seconds to decode every row of a folder, and the decoded arrays of all batches."""
    shards = ShardSet.open(folder, "train", domain.columns)
    started = time.process_time()
    batches = sequential_batches(shards, domain, batch_size=BATCH, decode_threads=1)
    decoded = [batch.fields for batch in batches]
    return time.process_time() - started, decoded


def time_prepared(options: Options) -> float:
    """Print and return the rows per CPU second of prepared shards."""
    domain = build_domain(recipe(options.recipe).domain)
    rows = ShardSet.open(options.data, "train", domain.columns).num_rows
    seconds = [decode_all(options.data, domain)[0] for _ in range(options.rounds + 1)]
    rate = rows / statistics.median(seconds[1:])
    print(f"{rows:,} rows of {options.data}: {rate:,.0f} per CPU second")
    return rate


def main(options: Options) -> float:
    """Write both arms, decode them in turn, print the table; returns their ratio."""
    torch.set_num_threads(1)
    if options.data:
        return time_prepared(options)
    domain = build_domain(MoleculesConfig())
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    with tempfile.TemporaryDirectory() as name:
        write_arms(Path(name), options.rows)
        first = [
            np.concatenate([each["positions"] for each in decode_all(f"{name}/{arm}", domain)[1]])
            for arm in ARMS
        ]
        if len(first[0]) != options.rows or not np.array_equal(first[0], first[1]):
            raise SystemExit("the two arms decode to different arrays")
        for _ in range(options.rounds):
            for arm in ARMS:
                seconds[arm].append(decode_all(f"{name}/{arm}", domain)[0])
    rates = {arm: options.rows / statistics.median(seconds[arm]) for arm in ARMS}
    ratio = rates["ours"] / rates["lists"]
    print("arrays equal\n| arm | rows per CPU second |\n| --- | --- |")
    print("\n".join(f"| {arm} | {rate:,.0f} |" for arm, rate in rates.items()))
    print(f"ratio {ratio:.2f}")
    return ratio


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
