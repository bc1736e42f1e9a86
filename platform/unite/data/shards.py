"""A data set on disk: a folder or s3:// URI of parquet shards, prepared or Hugging Face style.

Prepared folders hold `manifest.json`, which knows every shard's rows, row groups and digest, so
that opening one reads no shard. In other folders the footers tell. A folder may hold several
splits, which the names of its files tell apart (`unite.data.names`). Row ids count the rows of a
split in the order of its sorted file names, from 0.

The rule for columns, their names and types is in `unite.data.columns`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import zip_longest

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from unite.data.class_names import hugging_face_classes
from unite.data.columns import agreed_names, renaming_notes
from unite.data.folder import ParquetFolder
from unite.data.manifest import (
    MANIFEST,
    UNFINISHED,
    Shard,
    ShardError,
    SplitManifest,
    content_digest,
    read_manifest,
)
from unite.data.parquet import match_footer, read_footer, read_row_group, read_whole_column
from unite.data.parts import Split, joined, part_file, parts_of
from unite.domains.columns import LABEL, Column, Columns, column_of, names_of
from unite.storage import Store

ROW_ID = "row_id"
"""Column that `ShardSet.read` adds: the global id of each row."""
MISSING = np.iinfo(np.int64).min
"""Label that `read_labels` returns for a row without one."""

_IO_THREADS = 16
_LARGE_ROW_GROUP = 2**29

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """A row group of a shard."""

    file: str
    index: int
    num_rows: int
    first_row: int
    """Global id of the first row."""
    bytes: int
    """Share of the file's size, in bytes."""


@dataclass(frozen=True, kw_only=True)
class ShardSet:
    """One split of a data set: its row groups in file order, and their reading."""

    uri: str
    split: str
    columns: tuple[Column, ...]
    """Columns that `read` returns, besides ROW_ID."""
    row_groups: tuple[RowGroup, ...]
    class_names: tuple[str, ...] | None
    digest: str
    """SHA-256 of the manifest's content; without one, of file names, sizes and row counts."""
    manifest: SplitManifest | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()
    """Notes of a plan on the reading of names: files not taken, columns of other names."""
    num_foreign: int = 0
    """Number of parquet files with foreign names, which were not taken."""

    @classmethod
    def open(cls, uri: str, split: Split, columns: Columns) -> ShardSet:
        """The shards of `split` below `uri`; when no name says a split, all files are of any.

        Raises ShardError when there are no shards, names do not say which are meant, the manifest
        has another schema version, a file is missing or truncated, or a column of a shard is
        absent, ambiguous or of another type.
        """
        folders = parts_of(uri)
        if len(folders) > 1:
            return _joined([cls.open(folder, split, columns) for folder in folders])
        store = Store.open(uri)
        manifests = read_manifest(store)
        folder = ParquetFolder.list(store)
        if store.exists(UNFINISHED) and split not in (manifests or {}):
            raise ShardError(
                f"the preparation of {uri} is running or was interrupted; run the same "
                "jobs/prepare_data.py command again, it keeps the shards that are finished"
            )
        if manifests is None:
            return _from_footers(store, split, folder, columns)
        if split not in manifests:
            raise ShardError(
                f"{uri}/{MANIFEST} has no split '{split}', only {sorted(manifests)}; prepare it "
                f"with jobs/prepare_data.py --split {split} or name another folder"
            )
        return _from_manifest(store, split, manifests[split], folder.sizes, columns)

    @property
    def num_rows(self) -> int:
        """Rows of the split."""
        return sum(group.num_rows for group in self.row_groups)

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the shards that hold rows, sorted, relative to `uri`."""
        # Columns of a file without rows may have no type, so nothing reads it.
        return tuple(dict.fromkeys(group.file for group in self.row_groups if group.num_rows))

    def read(self, group: int, start: int = 0, stop: int | None = None) -> pa.Table:
        """Rows start..stop of the row group of that number: `columns` and ROW_ID (int64)."""
        return read_rows(self.uri, self.columns, self.row_groups[group], start, stop)

    def labels(self) -> np.ndarray:
        """The labels of all rows, int64 (num_rows,), as `read_labels` reads them."""
        return read_labels(self.uri, self.files)


def read_labels(uri: str, files: Iterable[str], column: Column = LABEL) -> np.ndarray:
    """One column of integers of all rows of files, int64 (rows,), MISSING where there is none.

    Reads that column only.
    """

    def read(file: str) -> np.ndarray:
        values = read_whole_column(uri, file, column).cast(pa.int64(), safe=False)
        return values.fill_null(MISSING).to_numpy()

    with ThreadPoolExecutor(_IO_THREADS) as pool:
        return np.concatenate(list(pool.map(read, files)))


def read_rows(
    uri: str, columns: Columns, group: RowGroup, start: int = 0, stop: int | None = None
) -> pa.Table:
    """Rows start..stop of a row group; ShardError or UnreachableError name the file."""
    table = read_row_group(uri, group.file, group.index, columns)
    if table.num_rows != group.num_rows:
        raise ShardError(
            f"{uri}/{group.file} changed: row group {group.index} now holds {table.num_rows} rows "
            f"instead of {group.num_rows}"
        )
    # pa.arange, not pa.array: the latter imports pandas (1.3 s) in every reading process.
    ids = pa.arange(group.first_row, group.first_row + group.num_rows)
    stop = group.num_rows if stop is None else stop
    return table.append_column(ROW_ID, ids).slice(start, stop - start)


def _joined(parts: Sequence[ShardSet]) -> ShardSet:
    """Several sets as one: their row groups one after the other."""
    groups, first_row = [], 0
    for number, part in enumerate(parts):
        for group in part.row_groups:
            at = {"file": part_file(number, group.file), "first_row": first_row + group.first_row}
            groups.append(replace(group, **at))
        first_row += part.num_rows
    return replace(
        parts[0],
        uri=joined([part.uri for part in parts]),
        row_groups=tuple(groups),
        class_names=None,
        digest=content_digest([part.digest for part in parts]),
        manifest=None,
        notes=tuple(note for part in parts for note in part.notes),
        num_foreign=sum(part.num_foreign for part in parts),
    )


def _from_manifest(
    store: Store,
    split: str,
    manifest: SplitManifest,
    sizes: dict[str, int],
    columns: Columns,
) -> ShardSet:
    for shard in manifest.shards:
        if sizes.get(shard.file) != shard.bytes:
            why = store.stand_in(shard.file) or (
                f"is missing or truncated: {sizes.get(shard.file, 0)} bytes, {MANIFEST} says "
                f"{shard.bytes}; copy it again, or delete it and run jobs/prepare_data.py again"
            )
            raise ShardError(f"{store}/{shard.file} {why}")
    needed = [each for each in map(column_of, columns) if not each.optional]
    _check_columns(f"{store}/{MANIFEST}", manifest.columns, names_of(needed))
    return ShardSet(
        uri=store.uri,
        split=split,
        columns=tuple(map(column_of, columns)),
        row_groups=_row_groups(store, manifest.shards),
        class_names=manifest.class_names,
        digest=manifest.digest,
        manifest=manifest,
    )


def _from_footers(store: Store, split: str, folder: ParquetFolder, columns: Columns) -> ShardSet:
    sizes, notes = folder.select(split, store.uri)
    with ThreadPoolExecutor(_IO_THREADS) as pool:
        footers = dict(pool.map(lambda name: (name, read_footer(store.uri, name)), sizes))
    names = agreed_names(
        {
            f"{store}/{name}": match_footer(store.uri, name, columns)
            for name, footer in footers.items()
            if footer.num_rows  # a file without rows may have columns of no type
        }
    )
    _warn_of_large_row_groups(store, footers)
    shards = [
        Shard(
            file=name,
            row_groups=tuple(footer.row_group(i).num_rows for i in range(footer.num_row_groups)),
            bytes=sizes[name],
        )
        for name, footer in footers.items()
    ]
    return ShardSet(
        uri=store.uri,
        split=split,
        columns=tuple(map(column_of, columns)),
        row_groups=_row_groups(store, shards),
        class_names=hugging_face_classes(store.uri, footers, names.get(LABEL.name, "")),
        digest=content_digest([[s.file, s.bytes, s.row_groups] for s in shards]),
        notes=(*notes, *renaming_notes(names)),
        num_foreign=len(folder.foreign_of(split)),
    )


def _row_groups(store: Store, shards: Iterable[Shard]) -> tuple[RowGroup, ...]:
    groups, first_row = [], 0
    for shard in shards:
        for index, num_rows in enumerate(shard.row_groups):
            group = RowGroup(
                file=shard.file,
                index=index,
                num_rows=num_rows,
                first_row=first_row,
                bytes=shard.bytes * num_rows // max(shard.num_rows, 1),
            )
            groups.append(group)
            first_row += num_rows
    if first_row == 0:
        raise ShardError(f"the shards in {store} hold no rows")
    return tuple(groups)


def _check_columns(where: str, present: Sequence[str], wanted: Sequence[str]) -> None:
    missing = [name for name in wanted if name not in present]
    if missing:
        raise ShardError(
            f"{where} has no column {', '.join(missing)}; it has {', '.join(present)}. "
            "Prepare the data again with jobs/prepare_data.py"
        )


def _warn_of_large_row_groups(store: Store, footers: dict[str, pq.FileMetaData]) -> None:
    for name, footer in footers.items():
        sizes = [footer.row_group(i).total_byte_size for i in range(footer.num_row_groups)]
        if sizes and max(sizes) > _LARGE_ROW_GROUP:
            log.warning(
                "%s/%s has a row group of %.1f GiB. It is read as one piece, so each lane holds "
                "that much memory; jobs/prepare_data.py writes small ones",
                store,
                name,
                max(sizes) / 2**30,
            )
            return


def require_same_classes(train: ShardSet, held_out: ShardSet) -> None:
    """ShardError when two splits number their classes differently; labels would be shifted.

    Splits without class names are taken on trust.
    """
    names, others = train.class_names, held_out.class_names
    if names is None or others is None or names == others:
        return
    lacking = [name for name in names if name not in others]
    unknown = [name for name in others if name not in names]
    number = next(i for i, pair in enumerate(zip_longest(names, others)) if pair[0] != pair[1])
    raise ShardError(
        f"data.train {train.uri} has {len(names)} classes and data.eval {held_out.uri} has "
        f"{len(others)}, and from label {number} on they mean different things (held out lacks: "
        f"{', '.join(lacking[:5]) or 'none'}; has extra: {', '.join(unknown[:5]) or 'none'}). "
        "Prepare the held-out set again into the folder of the training set (jobs/prepare_data.py "
        "--split eval with the same --out): it takes that set's labels"
    )
