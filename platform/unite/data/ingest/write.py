"""Rows of a source to one shard: parquet in small row groups, and what was skipped on the way."""

from __future__ import annotations

import hashlib
import io
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from unite.data.ingest.kind import Ingest
from unite.data.ingest.source import Record
from unite.data.manifest import Shard
from unite.storage import Store

EXAMPLES = 20
"""Places of skipped rows that are kept for each reason."""

log = logging.getLogger(__name__)


@dataclass
class Skipped:
    """Rows that cannot be used."""

    counts: Counter[str] = field(default_factory=Counter)
    """Number of them by reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Places of the first ones by reason."""

    def add(self, record: Record, error: str) -> None:
        """Count a row; what follows a colon in the error are details of the one row."""
        reason = error.partition(":")[0]
        self.counts[reason] += 1
        places = self.examples.setdefault(reason, [])
        if len(places) < EXAMPLES:
            places.append(record.path)
            log.info("skipped %s: %s", record.path, error)


def encode_records(records: Iterable[Record], ingest: Ingest, skipped: Skipped) -> Iterator[dict]:
    """Rows to store; those that cannot be used are counted in `skipped`."""
    rest = iter(records)
    while chunk := list(islice(rest, ingest.checked_rows)):
        encoded: list[tuple[Record, dict]] = []
        for record in chunk:
            try:
                encoded.append((record, ingest.encode(record)))
            except ValueError as error:
                skipped.add(record, str(error))
        refused = ingest.refused([row for _, row in encoded])
        for position, (record, row) in enumerate(encoded):
            if position in refused:
                skipped.add(record, refused[position])
            else:
                yield row


def write_shard(
    store: Store,
    name: str,
    rows: Iterable[dict],
    *,
    schema: pa.Schema,
    parquet: Mapping[str, Any],
    rows_per_group: int,
    skipped: Skipped | None = None,
) -> Shard:
    """Write rows of `schema` as one shard, atomically; `skipped` is read after the last row."""
    buffer, groups, rest = io.BytesIO(), [], iter(rows)
    with pq.ParquetWriter(buffer, schema, **parquet) as writer:
        while group := list(islice(rest, rows_per_group)):
            table = pa.Table.from_pylist(group, schema=schema)
            writer.write_table(table, row_group_size=rows_per_group)
            groups.append(len(group))
    data = buffer.getvalue()
    store.write(name, data)
    skipped = skipped or Skipped()
    return Shard(
        file=name,
        row_groups=tuple(groups),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        skipped=dict(skipped.counts),
        examples=skipped.examples,
    )
