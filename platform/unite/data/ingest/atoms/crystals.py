"""Crystals: CDVAE's CSVs (MP20), folders of CIF files, and parquet; their cells Niggli-reduced.

A crystal is numbers, fractional coordinates and the six parameters of its cell, whose orientation
is canonical because it is rebuilt from these. CIF texts need pymatgen (extra [chem]).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
import tyro

from unite.config.domains import CrystalsConfig
from unite.content import beginning, kind_of
from unite.data.ingest.atoms.base import UNITS, AtomsIngest, split_word
from unite.data.ingest.atoms.cif import read_cif
from unite.data.ingest.atoms.niggli import cell_parameters, cell_vectors, reduce_cell
from unite.data.ingest.atoms.rows import (
    BLOCK,
    TOO_LARGE,
    Faults,
    Row,
    csv_rows,
    flat_numbers,
    has_column,
    nameless,
    opened,
    parquet_rows,
    readable,
    told_apart,
    unpacked,
)
from unite.data.ingest.atoms.text import MOST_ATOMS
from unite.data.manifest import ShardError
from unite.data.names import split_of
from unite.domains.atoms.featurise import LARGEST_COORDINATE
from unite.domains.columns import FRAC, NUMBERS, Column
from unite.storage import Store

LENGTHS, ANGLES, LATTICE = Column(name="lengths"), Column(name="angles"), Column(name="lattice")
CIF = Column(name="cif")
ID = Column(name="material_id", aliases=("id",))
SPLIT = Column(name="split")
CSV, CIFS = (".csv", ".csv.gz"), (".cif", ".cif.gz")
FLOATS = ("frac", "lengths", "angles")
BESIDE_TABLES = "CIF file beside tables"
_BLOCK = re.compile(r"^(?=data_)", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class MP20Ingest(AtomsIngest):
    """Prepare MP20, or other crystals of small cells."""

    source: Annotated[str, tyro.conf.Positional]
    """A folder of CDVAE's CSVs (columns material_id, cif), a folder of CIF files, one of either, or
    parquet (numbers, frac, and lengths and angles or lattice); CIF needs extra [chem]."""
    max_atoms: int = 20
    """Largest cell in atoms; larger ones are refused, never cut."""
    elements: tuple[int, ...] = ()
    """Atomic numbers that may occur; empty = 1..99."""

    domain: ClassVar[str] = "crystals"
    noun: ClassVar[str] = "crystal"
    name: ClassVar[str] = "mp20"
    shares: ClassVar[tuple[int, int, int]] = (60, 20, 20)
    spacing: ClassVar[tuple[float, float]] = (1.0, 4.0)
    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("num_atoms", pa.int32()),
            *((name, pa.binary()) for name in ("numbers", *FLOATS)),
        ]
    )
    # Digits of coordinates are noise to a compressor, and statistics would repeat whole cells.
    parquet: ClassVar[Mapping[str, Any]] = {
        "compression": {
            **dict.fromkeys(("id", "num_atoms", "numbers"), "ZSTD"),
            **dict.fromkeys(FLOATS, "NONE"),
        },
        "use_dictionary": False,
        "write_statistics": ["num_atoms"],
    }

    @property
    def config(self) -> CrystalsConfig:
        """The domain whose rules rows have to meet."""
        return CrystalsConfig(max_atoms=self.max_atoms, elements=self.elements)

    def describe(self) -> dict[str, Any]:
        """Stored form, and the reduction of cells."""
        return {**super().describe(), "cell": "Niggli-reduced, rebuilt from its parameters"}

    def rows(self, faults: Faults) -> Iterator[Row]:
        """All crystals."""
        return _rows(self.source, faults)

    def parse(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Arrays of a row as the source has them, lengths in A."""
        if "cif" in cells:
            arrays = read_cif(cells["cif"] or "")
        else:
            arrays = _arrays(cells)
        return {**arrays, "lengths": arrays["lengths"] * UNITS[self.unit]}

    def stored(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The crystal in its reduced cell."""
        return reduced(arrays)


@dataclass(frozen=True, kw_only=True)
class Perov5Ingest(MP20Ingest):
    """Prepare Perov-5, perovskites of five atoms."""

    name: ClassVar[str] = "perov5"


def reduced(arrays: Mapping[str, Any]) -> dict[str, Any]:
    """The crystal in its Niggli cell, atoms in their order, coordinates in [0, 1).

    ValueError for a cell or coordinates that are none. Angles near 0 or 180 degrees are right here:
    MP20 has rhombohedral cells of 8 degrees, whose reduced cells are compact.
    """
    frac, num_atoms = np.asarray(arrays["frac"]), len(arrays["numbers"])
    if frac.size != 3 * num_atoms:
        raise ValueError(f"shape: frac holds {frac.size} numbers, not {3 * num_atoms}")
    if not (np.abs(frac) <= LARGEST_COORDINATE).all():  # also NaN
        raise ValueError("nonfinite: frac holds a number that is not finite or above 1000")
    cell_33 = cell_vectors(arrays["lengths"], arrays["angles"])
    step = reduce_cell(cell_33)
    frac = frac.reshape(-1, 3) @ np.linalg.inv(step)
    return {**arrays, "frac": (frac % 1.0).ravel(), **cell_parameters(step @ cell_33)}


def _arrays(cells: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Arrays of a row of numbers; ValueError for what holds none or something else."""
    if cells["numbers"] is None:
        raise ValueError("empty: the row has no atoms")
    numbers = flat_numbers(cells["numbers"], "numbers")
    if len(numbers) > MOST_ATOMS:
        raise ValueError(f"{TOO_LARGE}: {len(numbers):,} atoms")
    found: dict[str, np.ndarray] = {"numbers": numbers}
    names = ("frac", "lattice") if "lattice" in cells else FLOATS
    for name in names:
        found[name] = flat_numbers(cells[name], name, in_threes=True).astype(np.float64)
    if "lattice" in found:
        lattice = found.pop("lattice")
        if lattice.size != 9:
            raise ValueError(f"shape: lattice holds {lattice.size} numbers, not 9")
        found |= cell_parameters(lattice.reshape(3, 3))
    return found


def _rows(source: str, faults: Faults) -> Iterator[Row]:
    """Rows of a source of any form."""
    store = Store.open(source)
    if not store.exists():
        raise ShardError(f"the source {source} does not exist")
    if store.is_file():
        read = _of_cif if store.name.lower().endswith(CIFS) else _of_file
        yield from read(store, "", faults)
        return
    names = store.list(recursive=True)
    tables, texts = (
        [name for name in names if faults.takes(name, ends) and store.is_file(name)]
        for ends in ((*CSV, ".parquet"), CIFS)
    )
    if not tables and not texts:
        raise ShardError(f"{source} holds no .csv, .csv.gz, .parquet or .cif")
    for name in tables:
        yield from _of_file(store, name, faults)
    if tables and texts:
        faults.add(BESIDE_TABLES, len(texts))
    if not tables:
        found = (row for name in texts for row in _of_cif(store, name, faults))
        yield from told_apart(found, str(store))


def _of_file(store: Store, name: str, faults: Faults) -> Iterator[Row]:
    head, where = store.head(name), f"{store}/{name}".rstrip("/")
    kind = kind_of(head)
    if kind == "parquet":
        yield from _of_parquet(store, name)
    elif kind in ("gzip", "text") or where.lower().endswith(CSV):
        said = split_of(name or store.name)
        with opened(store, name) as file:
            for place, cells in csv_rows(file, where, ("material_id", "cif"), ("split",), faults):
                yield Row(
                    id=cells["material_id"] or nameless(place, str(store)),
                    where=place,
                    cells={"cif": cells["cif"]},
                    split=split_word(cells.get("split"), place, said),
                )
    else:
        why = store.stand_in(name) or beginning(head)
        raise ShardError(
            f"{where} {why}; crystals come as CSV with CIF texts, CIF files or parquet"
        )


def _of_cif(store: Store, name: str, faults: Faults) -> Iterator[Row]:
    """A row for each data block with atoms: a file of samples has many."""
    if store.size(name) > BLOCK:
        faults.add(TOO_LARGE)
        return
    where = f"{store}/{name}".rstrip("/")
    said = split_of(name) if "/" in name else ""
    with readable(where):
        text = unpacked(store.read(name)).decode("utf-8-sig", "replace")
    if len(text) > BLOCK:
        faults.add(TOO_LARGE)
        return
    stem = re.sub(r"\.cif(\.gz)?$", "", (name or store.name).rpartition("/")[2], flags=re.I)
    blocks = [block for block in _BLOCK.split(text) if "_atom_site_" in block]
    if len(blocks) < 2:
        yield Row(id=stem, where=where, cells={"cif": text}, split=said)
        return
    for number, block in enumerate(blocks, start=1):
        yield Row(
            id=f"{stem}-{number}", where=f"{where}#{number}", cells={"cif": block}, split=said
        )


def _of_parquet(store: Store, file: str) -> Iterator[Row]:
    if has_column(store, file, LATTICE):
        wanted = (NUMBERS, FRAC, LATTICE)
    elif has_column(store, file, FRAC) or not has_column(store, file, CIF):
        wanted = (NUMBERS, FRAC, LENGTHS, ANGLES)
    else:
        wanted = (CIF,)
    said = split_of(file) if file else ""
    for place, cells in parquet_rows(store, file, wanted, (ID, SPLIT)):
        known = cells.get("material_id")
        yield Row(
            id=nameless(place, str(store)) if known in (None, "") else str(known),
            where=place,
            split=split_word(cells.get("split"), place, said),
            cells={column.name: cells[column.name] for column in wanted},
        )
