"""Trial of a source before anything is written: a few encoded rows, their sizes and problems."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from unite.data.ingest.kind import Ingest
from unite.data.ingest.source import Part, Record
from unite.data.ingest.write import Skipped, encode_records
from unite.data.manifest import ShardError
from unite.data.probe import ROWS_TRIED, with_progress
from unite.words import count

SAMPLES = 32
"""Rows that are encoded for an estimate, over all parts; of more parts, one row of each."""
FEW_PARTS = 8


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Result of encoding the first rows of parts."""

    num_parts: int
    sizes: list[int] = field(repr=False)
    """Bytes of each row that could be encoded."""
    skipped: Counter[str]
    """Number of rows that could not be encoded, by reason."""

    @property
    def bytes_per_row(self) -> float:
        """Mean size of an encoded row."""
        return sum(self.sizes) / len(self.sizes)

    def lines(self) -> list[str]:
        """A line per reason for rows that will be skipped."""
        tried = len(self.sizes) + self.skipped.total()
        return [
            f"{number:,} of the first {count(tried, 'row')} of {count(self.num_parts, 'shard')} "
            f"cannot be used: {why}"
            for why, number in self.skipped.items()
        ]


def try_parts(
    uri: str,
    parts: Sequence[Part],
    ingest: Ingest,
    *,
    every: bool,
    tell: Callable[[str], None] = lambda line: None,
) -> Trial:
    """Encode the first rows of every part, or of FEW_PARTS evenly spaced ones.

    ShardError when none of the first ROWS_TRIED rows of a part can be used. `tell` gets progress.
    """
    chosen = parts if every else parts[:: max(1, len(parts) // FEW_PARTS)][:FEW_PARTS]
    wanted = max(1, SAMPLES // len(chosen))
    sizes: list[int] = []
    skipped: Counter[str] = Counter()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), thread_name_prefix="trial") as pool:
        results = pool.map(lambda part: _try(uri, part, ingest, wanted), chosen)
        try:
            for found, why in with_progress(results, len(chosen), "shards", tell):
                sizes += found
                skipped += why
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Trial(num_parts=len(chosen), sizes=sizes, skipped=skipped)


def _try(uri: str, part: Part, ingest: Ingest, wanted: int) -> tuple[list[int], Counter[str]]:
    """Sizes of the first `wanted` rows that can be used, and the reasons of those before them."""
    skipped = Skipped()
    paths: list[str] = []

    def records() -> Iterator[Record]:
        for record in islice(part.records(), wanted + ROWS_TRIED - 1):
            paths.append(record.path)
            yield record

    rows = encode_records(records(), ingest, skipped)
    sizes = [_bytes(row.values()) for row in islice(rows, wanted)]
    if not sizes:
        why = ", ".join(f"{number} x {reason}" for reason, number in skipped.counts.items())
        raise ShardError(
            f"{uri}: none of {count(len(paths), 'row')} from {paths[0]} on can be used ({why}); "
            "repair them, or leave them out"
        )
    return sizes, skipped.counts


def _bytes(cells: Iterable[Any]) -> int:
    """Bytes of cells as they are before compression; a number has 8."""
    return sum(len(cell) if isinstance(cell, bytes | str) else 8 for cell in cells)
