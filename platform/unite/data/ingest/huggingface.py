"""Parquet as the `datasets` library writes it.

Rows keep their order: those files are shuffled already, and reading parquet row by row is slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from unite.data.ingest.classes import Naming
from unite.data.ingest.source import Part, Record, Source
from unite.data.manifest import ShardError
from unite.data.names import FOREIGN_NAME
from unite.data.shards import RowGroup, ShardSet, Split, read_rows
from unite.domains.columns import IMAGES, Columns
from unite.storage import Store

Piece = tuple[RowGroup, int, int]
"""A row group and the rows start..stop of it."""


@dataclass(frozen=True)
class ParquetPart:
    """Consecutive rows of the source."""

    uri: str
    columns: Columns
    pieces: list[Piece]
    num_classes: int | None

    @property
    def num_rows(self) -> int:
        """Rows of the part."""
        return sum(stop - start for _, start, stop in self.pieces)

    def records(self) -> Iterator[Record]:
        """Read row group by row group; a label outside the class names is no label."""
        for group, start, stop in self.pieces:
            table = read_rows(self.uri, self.columns, group, start, stop)
            for row, cell in enumerate(table.to_pylist(), start):
                path = f"{group.file}#{group.index}.{row}"
                cells = {"image": cell["image"], "label": self._label(cell["label"])}
                yield Record(cells=cells, path=path)

    def _label(self, value: Any) -> int | None:
        if value is None or value < 0:
            return None
        return value if self.num_classes is None or value < self.num_classes else None


def open_parquet(store: Store, split: str, rows_per_part: int, naming: Naming) -> Source:
    """List the files of a split; ShardError as `ShardSet.open` raises it, or for other classes."""
    shards = ShardSet.open(store.uri, cast(Split, split), IMAGES)
    names = shards.class_names
    if naming.labels_file:
        raise ShardError(f"--labels {naming.labels_file}: parquet has labels of its own; drop it")
    if names is not None and naming.class_names not in (None, names):
        raise ShardError(
            f"{store} numbers its classes otherwise than the training set in the same --out; "
            "choose another --out"
        )
    parts: list[Part] = [
        ParquetPart(shards.uri, shards.columns, pieces, None if names is None else len(names))
        for pieces in _cut(shards.row_groups, rows_per_part)
    ]
    return Source(
        uri=shards.uri,
        num_rows=shards.num_rows,
        parts=parts,
        class_names=names,
        digest=shards.digest,
        skipped={FOREIGN_NAME: shards.num_foreign} if shards.num_foreign else {},
        notes=shards.notes,
    )


def _cut(groups: tuple[RowGroup, ...], rows_per_part: int) -> Iterator[list[Piece]]:
    """Divide row groups into parts of `rows_per_part` rows, the last one shorter."""
    part: list[Piece] = []
    room = rows_per_part
    for group in groups:
        start = 0
        while start < group.num_rows:
            stop = min(start + room, group.num_rows)
            part.append((group, start, stop))
            room -= stop - start
            start = stop
            if room == 0:
                yield part
                part, room = [], rows_per_part
    if part:
        yield part
