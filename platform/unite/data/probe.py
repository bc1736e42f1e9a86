"""Probe of a dry run: one decoded row of every shard, besides footers and labels.

A shard costs its first row group, the least that is read at once: 10 MB of the shards that
jobs/prepare_data.py writes, so that 1,000 shards are 10 GB, a minute and a half at 1 Gbit/s. As
many are read side by side as fit into MOST_BYTES, up to READERS. Progress is told every
TELL_SECONDS.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from unite.data.manifest import ShardError
from unite.data.shards import ShardSet
from unite.words import count, duration

if TYPE_CHECKING:  # a preparation reports progress from here, without torch
    from unite.domains.base import Domain

T = TypeVar("T")

READERS = 16
MOST_BYTES = 2**30
ROWS_TRIED = 8
"""Rows of a shard that are tried until one can be decoded."""
TELL_SECONDS = 5.0


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Result of decoding the first rows of all shards of a split."""

    num_shards: int
    seconds: float
    bad: dict[str, str]
    """Reason by shard, of those whose first row cannot be decoded though a later one can."""

    def __str__(self) -> str:
        done = f"{count(self.num_shards, 'shard')}, a row of each decoded"
        text = f"{done}, in {duration(self.seconds)}"
        if self.bad:
            file, reason = next(iter(self.bad.items()))
            text += f"; bad first rows in {count(len(self.bad), 'shard')}, as {file}: {reason}"
        return text


def probe_shards(
    shards: ShardSet, domain: Domain, tell: Callable[[str], None] = lambda line: None
) -> Probe:
    """Decode a row of every shard as training would; `tell` gets lines of progress.

    ShardError naming the file when it cannot be read, or when none of its first ROWS_TRIED rows can
    be decoded.
    """
    started = time.monotonic()
    first = _first_groups(shards)
    files = [shards.row_groups[number].file for number in first]
    largest = max(shards.row_groups[number].bytes for number in first)
    readers = max(1, min(READERS, MOST_BYTES // max(largest, 1)))
    with ThreadPoolExecutor(readers, thread_name_prefix="probe") as pool:
        results = pool.map(lambda number: _first_bad(shards, number, domain), first)
        try:
            reasons = with_progress(results, len(files), "shards", tell)
            bad = {file: reason for file, reason in zip(files, reasons, strict=True) if reason}
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return Probe(num_shards=len(files), seconds=time.monotonic() - started, bad=bad)


def with_progress(
    results: Iterable[T], total: int, what: str, tell: Callable[[str], None]
) -> Iterator[T]:
    """Pass results on; every TELL_SECONDS a line of how many there are and the time left."""
    started = told = time.monotonic()
    for done, result in enumerate(results, start=1):
        yield result
        now = time.monotonic()
        if now - told >= TELL_SECONDS:
            told = now
            left = duration((now - started) * (total - done) / done)
            tell(f"looked into {done:,} of {total:,} {what}, {left} left")


def _first_groups(shards: ShardSet) -> list[int]:
    """Number of the first row group with rows of each shard that has one."""
    found: dict[str, int] = {}
    for number, group in enumerate(shards.row_groups):
        if group.num_rows:
            found.setdefault(group.file, number)
    return list(found.values())


def _first_bad(shards: ShardSet, group: int, domain: Domain) -> str:
    """Reason why the first row cannot be decoded, "" when it can; ShardError when none can."""
    rows = shards.read(group, 0, ROWS_TRIED).to_pydict()
    reasons: list[str] = []
    for number in range(len(next(iter(rows.values())))):
        row: dict[str, list[Any]] = {name: [cells[number]] for name, cells in rows.items()}
        _, failed = domain.decode_rows(row)
        if not failed:
            return reasons[0] if reasons else ""
        reasons.append(failed[0][1])
    file, tried = shards.row_groups[group].file, count(len(reasons), "row")
    raise ShardError(
        f"{shards.uri}/{file}: none of its first {tried} can be decoded ({reasons[0]}); repair the "
        "file, or leave it out"
    )
