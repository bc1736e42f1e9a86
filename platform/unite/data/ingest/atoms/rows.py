"""Rows of tables and archives of atoms, bounded before anything parses them.

A row is its cells by name, as text or as arrays; nothing of its chemistry is looked at here. What
a file as a whole makes unreadable is a ShardError with its name.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from unite.content import HEAD_BYTES, beginning, kind_of, stand_in
from unite.data.manifest import ShardError
from unite.data.names import FOREIGN_NAME, foreign_part, shown
from unite.data.parquet import match_footer, read_footer, read_row_group
from unite.domains.columns import Column
from unite.storage import Store

MOST_UNPACKED = 4 * 2**30
"""Largest number of bytes that a packed file may hold, as all of it is in memory."""
LARGEST_ROW = 2**20
"""Characters of a row's text beyond which nothing reads it."""
BLOCK = 2**26
"""Bytes of a table that are read at once; a longer row makes the file unreadable."""
PARSE = "parse"
TOO_LARGE = "too_large"


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a source."""

    id: str
    """Identity of the structure, unique in the source."""
    where: str
    """File and row."""
    cells: Mapping[str, Any]
    split: str = ""
    """Split that the source says: train, validation, test; empty = none."""


@dataclass
class Faults:
    """Rows that a reader leaves out, by reason."""

    counts: dict[str, int] = field(default_factory=dict)

    def add(self, reason: str, number: int = 1) -> None:
        """Count some."""
        self.counts[reason] = self.counts.get(reason, 0) + number

    @property
    def unreadable(self) -> int:
        """Number of rows that belong to the data and could not be read."""
        return sum(self.counts.get(reason, 0) for reason in (PARSE, TOO_LARGE))

    def takes(self, name: str, suffixes: str | tuple[str, ...]) -> bool:
        """True for a file of the data by its ending; one that a system left is counted."""
        if not name.lower().endswith(suffixes):
            return False
        if foreign_part(name.removeprefix("./")):
            self.add(FOREIGN_NAME)
            return False
        return True


def nameless(where: str, source: str) -> str:
    """Identity of a row that has none of its own, by its file and number in the source."""
    return f"row-{where.removeprefix(source).lstrip('/#')}"


def told_apart(
    rows: Iterable[Row], source: str, keeps: Callable[[str], bool] = lambda name: False
) -> list[Row]:
    """Rows of files whose names need not be identities: an XYZ comment's first word, an SDF title,
    the name of a CIF file. Where two of one split have the same, all are known by file and number,
    but those that `keeps` is true of."""
    rows = list(rows)
    if len({(row.split, row.id) for row in rows}) == len(rows):
        return rows
    return [row if keeps(row.id) else replace(row, id=nameless(row.where, source)) for row in rows]


def flat_numbers(cell: Any, name: str, in_threes: bool = False) -> np.ndarray:
    """Numbers of a parquet cell, flat; ValueError when it holds something else.

    `in_threes`: they may come as a list of threes, such as the coordinates of each atom.
    """
    if isinstance(cell, bytes):
        raise ValueError(f"shape: {name} holds bytes, not a list of numbers")
    try:
        values = np.asarray(cell)
    except ValueError as error:  # lists of several lengths
        raise ValueError(f"shape: {name} is no list of numbers") from error
    flat = values.ndim == 1 or (in_threes and values.ndim == 2 and values.shape[1] == 3)
    if not flat or values.dtype.kind not in "iuf":
        raise ValueError(f"shape: {name} is no list of numbers")
    return values.ravel()


def csv_rows(
    stream: IO[bytes], where: str, wanted: Sequence[str], optional: Sequence[str], faults: Faults
) -> Iterator[tuple[str, dict[str, str]]]:
    """(file and row, cells as text) of a CSV with a head; lines of another width are counted.

    ShardError naming a wanted column that is not there, or a file that is no CSV in UTF-8.
    """

    def left_out(row: pacsv.InvalidRow) -> str:
        faults.add(PARSE)
        return "skip"

    with readable(where):
        data = stream.read()
        if kind_of(data[:HEAD_BYTES]) not in ("text", "unknown"):  # such as a tar that was packed
            raise ShardError(f"{where} {beginning(data[:HEAD_BYTES])} and no CSV")
        head, width = _head(data, where)
        require_columns(where, head, wanted)
        names = [name for name in (*wanted, *optional) if name in head]
        table = pacsv.open_csv(
            pa.BufferReader(data),
            read_options=pacsv.ReadOptions(
                block_size=BLOCK, column_names=width, skip_rows_after_names=1
            ),
            parse_options=pacsv.ParseOptions(newlines_in_values=True, invalid_row_handler=left_out),
            convert_options=pacsv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=False,
            ),
        )
        number = 0
        for batch in table:
            for cells in batch.to_pylist():
                number += 1
                yield f"{where}#{number}", cells


def _head(data: bytes, where: str) -> tuple[list[str], list[str]]:
    """Names of the head, and the same with a number in place of a name that comes twice."""
    line = data.partition(b"\n")[0].decode("utf-8-sig").strip("\r")
    if not line:
        raise ShardError(f"{where} is empty")
    names = [name.strip().strip('"') for name in line.split(",")]
    times = Counter(names)
    unique = [name if times[name] == 1 else f"{name}.{i}" for i, name in enumerate(names)]
    return names, unique


def require_columns(where: str, head: Sequence[str], wanted: Sequence[str]) -> None:
    """ShardError naming the columns that are not there."""
    missing = [name for name in wanted if name not in head]
    if missing:
        there = shown([name[:40] for name in head], most=20)  # of what is no table, anything
        raise ShardError(
            f"{where} has no column {', '.join(missing)}, so it holds no structures; it has {there}"
        )


def parquet_rows(
    store: Store, file: str, wanted: Sequence[Column], optional: Sequence[Column]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file and row, cells) of a parquet file; lists of numbers come as arrays.

    ShardError as of the reader of shards: damaged, or without a wanted column.
    """
    schema = read_footer(store.uri, file).schema.to_arrow_schema()
    there = [c for c in optional if {c.name, *c.aliases} & set(schema.names)]
    columns = (*wanted, *there)
    match_footer(store.uri, file, columns)
    where, number = f"{store}/{file}".rstrip("/"), 0
    for group in range(read_footer(store.uri, file).num_row_groups):
        table = read_row_group(store.uri, file, group, columns)
        _refuse_bytes(table, where)
        cells = {name: _cells(table.column(name)) for name in table.column_names}
        for row in range(table.num_rows):
            number += 1
            yield f"{where}#{number}", {name: each[row] for name, each in cells.items()}


def _refuse_bytes(table: pa.Table, where: str) -> None:
    """ShardError naming a column of bytes, which may be numbers of any size or texts."""
    for name, kind in zip(table.column_names, table.schema.types, strict=True):
        if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            raise ShardError(
                f"{where}: the column {name!r} holds bytes; store numbers as lists and texts as "
                "strings. Folders that are prepared already are trained on as they are "
                "(--data.train), not prepared again"
            )


def has_column(store: Store, file: str, column: Column) -> bool:
    """True if a parquet file has a column, by any of its names."""
    names = set(read_footer(store.uri, file).schema.to_arrow_schema().names)
    return bool(names & {column.name, *column.aliases})


def _cells(column: pa.ChunkedArray) -> list[Any]:
    """Cells of a column; those of lists of numbers as numpy arrays."""
    kind = column.type
    is_list = pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind)
    if not is_list or not pa.types.is_primitive(kind.value_type):
        return column.to_pylist()
    return [
        None if cell.values is None else cell.values.to_numpy(zero_copy_only=False)
        for chunk in column.chunks
        for cell in chunk
    ]


def zip_members(store: Store, suffix: str, faults: Faults) -> Iterator[tuple[str, IO[bytes]]]:
    """Files of a zip or wheel whose names end so, one at a time and opened."""
    with (
        readable(str(store)),
        store.filesystem.open_input_file(store.path()) as file,
        zipfile.ZipFile(file) as archive,
    ):
        for name in sorted(archive.namelist()):
            if faults.takes(name, suffix):
                _check_member(store, archive.getinfo(name))
                with archive.open(name) as member:
                    yield name, member


def _check_member(store: Store, member: zipfile.ZipInfo) -> None:
    if member.flag_bits & 1:
        raise ShardError(f"{store}: {member.filename} in it is encrypted: unpack it first")
    if member.file_size > MOST_UNPACKED:
        raise ShardError(
            f"{store}: {member.filename} in it has more than {MOST_UNPACKED:,} bytes: name a part"
        )


def tar_members(
    store: Store, suffix: str | tuple[str, ...], faults: Faults
) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of the files of a tar, compressed or not, whose names end so.

    Files above LARGEST_ROW are counted and not read.
    """
    with (
        readable(str(store)),
        store.filesystem.open_input_file(store.path()) as file,
        tarfile.open(fileobj=file, mode="r|*") as archive,
    ):
        for member in archive:
            if not member.isfile() or not faults.takes(member.name, suffix):
                continue
            if member.size > LARGEST_ROW:
                faults.add(TOO_LARGE)
                continue
            content = archive.extractfile(member)
            if content is not None:
                yield member.name, content.read()


@contextmanager
def opened(store: Store, name: str = "") -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked if its first bytes are those of gzip or bzip2."""
    where = f"{store}/{name}".rstrip("/")
    with readable(where):
        data = store.read(name)
        if why := stand_in(data[:HEAD_BYTES]):
            raise ShardError(f"{where} {why}")
        content = unpacked(data)
        if len(content) > MOST_UNPACKED:
            raise ShardError(
                f"{where} unpacks to more than {MOST_UNPACKED:,} bytes: unpack it first"
            )
        yield io.BytesIO(content)


def unpacked(data: bytes) -> bytes:
    """Bytes behind gzip or bzip2, at most one more than are taken; others as they are."""
    import bz2
    import gzip

    if data[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=io.BytesIO(data)).read(MOST_UNPACKED + 1)
    if data[:3] == b"BZh":
        return bz2.BZ2File(io.BytesIO(data)).read(MOST_UNPACKED + 1)
    return data


@contextmanager
def readable(where: str) -> Iterator[None]:
    """Whatever makes a file unreadable becomes a ShardError that names it."""
    try:
        yield
    except (ShardError, FileNotFoundError):
        raise
    except (
        *(pa.ArrowInvalid, tarfile.TarError, zipfile.BadZipFile, zlib.error),
        *(EOFError, NotImplementedError, OSError, UnicodeDecodeError),
    ) as error:
        raise ShardError(
            f"{where} cannot be read, it may be damaged, cut short or of another encoding than "
            f"UTF-8 ({type(error).__name__}: {error}); copy it again"
        ) from error
