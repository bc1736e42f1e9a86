"""Molecules: QM9 as its packages and archives hold it, and parquet of numbers and positions.

Nothing here needs a chemistry package: positions are given, and only the SMILES column says what is
charged. A source may be a wheel or zip of CSVs (columns Index, Elements, XYZ_Ang), a folder of such
CSVs, parquet, SDF (V2000), XYZ, or a tar of XYZ files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import tyro

from unite import terminal
from unite.config.domains import MoleculesConfig
from unite.data.ingest.atoms import splits
from unite.data.ingest.atoms.base import UNITS, AtomsIngest
from unite.data.ingest.atoms.molecule_files import BUILTIN_QM9, molecule_rows
from unite.data.ingest.atoms.rows import LARGEST_ROW, TOO_LARGE, Faults, Row, flat_numbers
from unite.data.ingest.atoms.text import MOST_ATOMS, element_numbers
from unite.data.ingest.prepare import begin, finish, plan, run_job
from unite.data.manifest import ShardError, is_whole, read_manifest
from unite.storage import Store
from unite.words import count

FROM_ZERO = "0"
"""Id that QM9's indices do not have: they count from 1."""
UNCHARACTERISED = "uncharacterised"
_CHARGE = re.compile(r"\[[^\]]*?([+-]+)(\d*)(?::\d+)?\]")


@dataclass(frozen=True, kw_only=True)
class QM9Ingest(AtomsIngest):
    """Prepare QM9, or other molecules of its elements."""

    source: Annotated[str, tyro.conf.Positional]
    """The wheel of qm9pack, a zip, folder or file of CSV (columns Index, Elements, XYZ_Ang),
    parquet (numbers, positions), SDF, XYZ, a tar of XYZ files, or builtin:qm9 (extra [qm9])."""
    split: Literal["auto", "edm"] = "auto"
    """auto: the source's own split, else that of the hash of each index, 100,000 / 18,000 / 12,831;
    edm: that of EDM, 100,000 / 17,748 / 13,083."""
    max_atoms: int = 29
    """Largest molecule in atoms; larger ones are refused, never cut."""
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    """Atomic numbers that may occur; rows with others are refused."""
    require_neutral: bool = False
    """Refuse molecules with a net charge by their SMILES, which are counted else and kept."""

    domain: ClassVar[str] = "molecules"
    noun: ClassVar[str] = "molecule"
    name: ClassVar[str] = "qm9"
    shares: ClassVar[tuple[int, int, int]] = splits.QM9_SIZES
    spacing: ClassVar[tuple[float, float]] = (0.8, 1.5)
    schema: ClassVar[pa.Schema] = pa.schema(
        [
            ("id", pa.string()),
            ("num_atoms", pa.int32()),
            ("numbers", pa.binary()),
            ("positions", pa.binary()),
        ]
    )
    # Digits of positions are noise to a compressor, and statistics would repeat whole cells.
    parquet: ClassVar[Mapping[str, Any]] = {
        "compression": {"id": "ZSTD", "num_atoms": "ZSTD", "numbers": "ZSTD", "positions": "NONE"},
        "use_dictionary": False,
        "write_statistics": ["num_atoms"],
    }

    @property
    def config(self) -> MoleculesConfig:
        """The domain whose rules rows have to meet."""
        return MoleculesConfig(max_atoms=self.max_atoms, elements=self.elements)

    def rows(self, faults: Faults) -> Iterator[Row]:
        """All molecules, or those of EDM's split."""
        found = molecule_rows(self.source, faults)
        if self.split == "auto":
            yield from found
            return
        parts = splits.edm_split()
        for row in found:
            known = row.id in parts or splits.qm9_index(row.id) in splits.uncharacterised()
            if not known:
                raise ShardError(f"--split edm: {row.where} is no molecule of QM9 by its index")
            yield Row(id=row.id, where=row.where, cells=row.cells, split=parts.get(row.id, ""))

    def excluded(self, ids: Iterable[str]) -> Mapping[str, str]:
        """The uncharacterised molecules of a source that holds QM9; ids from 0 are not its."""
        ids = set(ids)
        left_out = frozenset() if FROM_ZERO in ids else splits.uncharacterised()
        return {each: UNCHARACTERISED for each in ids if splits.qm9_index(each) in left_out}

    def split_of_ids(self, ids: Iterable[str]) -> Mapping[str, str]:
        """QM9's own split where all are of QM9, whole or not; else that of the hash."""
        indices = {each: str(splits.qm9_index(each)) for each in ids}
        whole = splits.qm9_split() if "0" not in indices.values() else {}
        if whole.keys() >= set(indices.values()):
            return {each: whole[index] for each, index in indices.items()}
        return super().split_of_ids(indices)

    def notes(self, rows: list[Row]) -> tuple[str, ...]:
        """Ids from 0, molecules without hydrogen, and those charged or divided that are kept."""
        return (*_numbered_from_zero(rows), *_without_hydrogen(rows), *self._charges(rows))

    def _charges(self, rows: list[Row]) -> tuple[str, ...]:
        smiles = [text for row in rows if (text := row.cells.get("smiles"))]
        if not smiles:
            if self.require_neutral:
                raise ValueError("--require-neutral has no effect: the source has no SMILES")
            return ()
        kept = {
            "a net charge": 0 if self.require_neutral else sum(map(bool, map(net_charge, smiles))),
            "several fragments": sum("." in text for text in smiles),
        }
        return tuple(
            f"{count(number, 'molecule')} with {what} by SMILES: kept"
            for what, number in kept.items()
            if number
        )

    def parse(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """`numbers` and centred `positions` in A of a row of any form."""
        if self.require_neutral and (charge := net_charge(cells.get("smiles") or "")):
            raise ValueError(f"charged: net charge {charge:+d} by its SMILES")
        if cells.get("drawn"):
            raise ValueError("drawn: a drawing in the plane (the record says 2D), no geometry")
        if cells.get("cell"):
            raise ValueError(f"periodic: a frame in a cell, {cells['cell']}, is no molecule")
        numbers, positions = _arrays(cells)
        if positions.size == 3 * len(numbers) and positions.size:
            positions = positions.reshape(-1, 3) * UNITS[self.unit]
            with np.errstate(invalid="ignore"):  # what is not finite is refused as such
                positions = (positions - positions.mean(0)).ravel()
        return {"numbers": numbers, "positions": positions}

    def tells_unit(self, arrays: Mapping[str, Any]) -> bool:
        """Molecules with hydrogen: their shortest bond is one of its."""
        return bool((np.asarray(arrays["numbers"]) == 1).any())


def prepare_qm9(store: Store) -> None:
    """Write all of QM9 from the package qm9pack, in this process; finished shards are kept."""
    there = read_manifest(store)  # it is written last, with all splits
    if there and all(is_whole(store, manifest) for manifest in there.values()):
        return
    planned = plan(QM9Ingest(source=BUILTIN_QM9, out=store.uri))
    begin(planned)
    terminal.tell(f"writing {count(planned.num_rows, 'molecule')} of QM9 into {store}, once")
    finish(planned, [run_job(job) for job in planned.jobs])


def _numbered_from_zero(rows: list[Row]) -> tuple[str, ...]:
    """A note on rows whose ids are whole numbers from 0."""
    ids = [row.id for row in rows]
    if FROM_ZERO not in ids or not all(map(str.isdecimal, ids)):
        return ()
    return (
        f"ids count from 0, those of QM9 from 1 to {splits.QM9_MOLECULES:,}: none is taken for one "
        "of QM9, whose uncharacterised molecules would stay",
    )


def _without_hydrogen(rows: list[Row]) -> tuple[str, ...]:
    """A note on rows most of which have no hydrogen, as where it is only implied."""
    bare = sum(not _has_hydrogen(row.cells) for row in rows)
    if 2 * bare <= len(rows):
        return ()
    return (
        f"{count(bare, 'molecule')} of {len(rows):,} without hydrogen: kept. Where hydrogens are "
        "only implied, add them to the source first: what is trained on has none either",
    )


def _has_hydrogen(cells: Mapping[str, Any]) -> bool:
    if "numbers" in cells:
        return cells["numbers"] is None or 1 in cells["numbers"]
    return "H" in (cells["elements"] or "H").translate(_NO_BRACKETS).split(",")


def net_charge(smiles: str) -> int:
    """Sum of the charges that a SMILES writes down."""
    signs = ((text[0], len(text), digits) for text, digits in _CHARGE.findall(smiles))
    return sum(int(f"{sign}{digits or length}") for sign, length, digits in signs)


def _arrays(cells: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Atomic numbers (N,) and flat coordinates in the source's unit."""
    if "numbers" in cells:
        if cells["numbers"] is None or cells["positions"] is None:
            raise ValueError("empty: the row has no atoms")
        numbers = flat_numbers(cells["numbers"], "numbers")
        positions = flat_numbers(cells["positions"], "positions", in_threes=True)
        if len(numbers) > MOST_ATOMS:
            raise ValueError(f"{TOO_LARGE}: {len(numbers):,} atoms")
        return numbers, positions.astype(np.float64)
    elements, coordinates = cells["elements"], cells["coordinates"]
    if elements is None or coordinates is None or not elements.strip("[] "):
        raise ValueError("empty: the row has no atoms")
    if len(elements) + len(coordinates) > LARGEST_ROW:
        raise ValueError(f"{TOO_LARGE}: {len(elements) + len(coordinates):,} characters")
    words = elements.translate(_NO_BRACKETS).split(",")
    text = coordinates.translate(_NO_BRACKETS).split(",")
    try:
        positions = np.array([float(word) for word in text])
    except ValueError as error:
        raise ValueError(f"parse: {error}") from error
    return element_numbers(words), positions


_NO_BRACKETS = str.maketrans("", "", "[]'\" ")
