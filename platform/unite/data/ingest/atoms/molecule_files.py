"""Sources of molecules in all their forms, as rows that nothing has parsed yet.

A wheel, zip, folder or file of CSV, parquet, SDF, XYZ, or a tar of XYZ files; texts may be packed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import IO, Any

from unite.content import beginning, kind_of
from unite.data.ingest.atoms import installed
from unite.data.ingest.atoms.base import split_word
from unite.data.ingest.atoms.rows import (
    Faults,
    Row,
    csv_rows,
    nameless,
    opened,
    parquet_rows,
    readable,
    require_columns,
    tar_members,
    told_apart,
    zip_members,
)
from unite.data.ingest.atoms.splits import qm9_index
from unite.data.ingest.atoms.text import sdf_records, xyz_frames
from unite.data.manifest import ShardError
from unite.data.names import split_of
from unite.domains.columns import NUMBERS, POSITIONS, Column
from unite.storage import Store

BUILTIN_QM9 = "builtin:qm9"
CSV_COLUMNS = ("Index", "Elements", "XYZ_Ang")
ID = Column(name="id", aliases=("index", "material_id", "Index"))
SPLIT, SMILES = Column(name="split"), Column(name="smiles", aliases=("SMILES",))
XYZ = (".xyz", ".extxyz")
TAR = re.compile(r"\.tar\b|\.tgz$|\.tbz2?$")


def molecule_rows(source: str, faults: Faults) -> Iterator[Row]:
    """Rows of a source of any form."""
    store = Store.open(installed.folder_of(source, BUILTIN_QM9, "qm9pack", "qm9"))
    if not store.exists():
        raise ShardError(f"the source {source} does not exist")
    if store.is_file():
        yield from _of_file(store, faults)
        return
    names = [name for name in store.list() if faults.takes(name, (".csv", ".parquet"))]
    if not names:
        raise ShardError(f"{source} holds no .csv and no .parquet; name a file of molecules")
    tables = [name for name in names if name.lower().endswith(".csv")]
    if tables:
        yield from _of_tables(((name, opened(store, name)) for name in tables), store, faults)
    for name in names:
        if name not in tables:
            yield from _of_parquet(store, name)


def _of_file(store: Store, faults: Faults) -> Iterator[Row]:
    head = store.head()
    kind = kind_of(head)
    packed = kind == "gzip" or head[:3] == b"BZh"
    name = store.name.lower().removesuffix(".gz").removesuffix(".bz2")
    if kind == "parquet":
        yield from _of_parquet(store, "")
    elif kind == "zip":
        yield from _of_tables(zip_members(store, ".csv", faults), store, faults)
    elif kind == "tar" or packed and TAR.search(store.name.lower()):
        yield from _told_apart(_of_tar(store, faults), store)
    elif kind == "text" or packed or name.endswith((".csv", ".sdf", *XYZ)):  # of any encoding
        with opened(store) as file:
            yield from _of_texts(file, name, store, faults)
    else:
        why = store.stand_in() or beginning(head)
        raise ShardError(
            f"{store} {why}; molecules come as CSV, a wheel or zip of CSV, parquet, SDF, XYZ or a "
            "tar of XYZ"
        )


def _of_texts(file: IO[bytes], name: str, store: Store, faults: Faults) -> Iterator[Row]:
    """Rows of SDF, XYZ or CSV, as the file's `name` says, which is without that of its packing."""
    place = str(store)
    if name.endswith(".sdf"):
        yield from _told_apart(_of_text(sdf_records(file, faults), place, place), store)
    elif name.endswith(XYZ):
        frames = xyz_frames(file.read().decode("utf-8-sig", "replace"), faults)
        yield from _told_apart(_of_text(frames, place, place), store)
    else:
        yield from _of_csv(file, place, "", faults)


def _of_tables(members: Iterable[tuple[str, Any]], store: Store, faults: Faults) -> Iterator[Row]:
    """Rows of those tables of a package that have coordinates; ShardError when none has."""
    heads: dict[str, list[str]] = {}
    found = False
    for name, member in members:
        with readable(f"{store}/{name}"), member as file:
            data: IO[bytes] = file
            head = data.readline().decode("utf-8-sig", "replace").strip().split(",")
            heads[name] = head
            if set(CSV_COLUMNS) <= set(head):
                found = True
                data.seek(0)
                yield from _of_csv(data, f"{store}/{name}", split_of(name), faults)
    if not heads:
        raise ShardError(f"{store} holds no .csv")
    if not found:
        name = next(iter(heads))
        require_columns(f"{store}/{name}", heads[name], CSV_COLUMNS)


def _of_csv(file: IO[bytes], where: str, said: str, faults: Faults) -> Iterator[Row]:
    """Rows of a table whose name says the split `said`."""
    for place, cells in csv_rows(file, where, CSV_COLUMNS, ("SMILES", "split"), faults):
        yield Row(
            id=cells["Index"],
            where=place,
            split=split_word(cells.get("split"), place, said),
            cells={
                "elements": cells["Elements"],
                "coordinates": cells["XYZ_Ang"],
                "smiles": cells.get("SMILES"),
            },
        )


def _of_parquet(store: Store, file: str) -> Iterator[Row]:
    said = split_of(file)
    for place, cells in parquet_rows(store, file, (NUMBERS, POSITIONS), (ID, SPLIT, SMILES)):
        known = cells.get("id")
        yield Row(
            id=nameless(place, str(store)) if known in (None, "") else str(known),
            where=place,
            split=split_word(cells.get("split"), place, said),
            cells={name: cells.get(name) for name in ("numbers", "positions", "smiles")},
        )


def _of_tar(store: Store, faults: Faults) -> Iterator[Row]:
    for name, data in tar_members(store, XYZ, faults):
        frames = xyz_frames(data.decode("utf-8-sig", "replace"), faults)
        yield from _of_text(frames, f"{store}/{name}", str(store))


def _of_text(
    records: Iterator[tuple[str, dict[str, str]]], where: str, source: str
) -> Iterator[Row]:
    """Rows of records with names; a bare number is an index of QM9 in its own files alone."""
    for number, (name, cells) in enumerate(records, start=1):
        place, name = f"{where}#{number}", name.strip()
        if index := re.fullmatch(r"(?:gdb|dsgdb9nsd)[ _]?0*(\d+)", name):
            name = index[1]
        elif name.isdecimal():
            name = f"name-{name}"
        yield Row(id=name or nameless(place, source), where=place, cells=cells)


def _told_apart(rows: Iterable[Row], store: Store) -> list[Row]:
    """Rows of text, by their names where these are identities; QM9's indices always are."""
    return told_apart(rows, str(store), lambda name: bool(qm9_index(name)))
