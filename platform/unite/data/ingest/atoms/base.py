"""Atoms as rows of shards: splits, checks and stored columns that molecules and crystals share.

A source is read once, as text or arrays; what costs time (parsing, reduction of cells, distances)
is done shard by shard. What is stored is read back by the domain's own rules
(`domains.atoms.featurise`): a row that they refuse is counted by the reason.
"""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np

from unite.config.domains import AtomsConfig
from unite.data.ingest.atoms.rows import Faults, Row
from unite.data.ingest.atoms.splits import hash_order, hash_split
from unite.data.ingest.kind import Ingest
from unite.data.ingest.source import Record, Source
from unite.data.manifest import ShardError
from unite.data.names import SPLIT_WORDS, shown
from unite.domains.atoms.featurise import decode, smallest_distances
from unite.storage import Store
from unite.words import count

Unit = Literal["angstrom", "nm", "bohr"]
UNITS: Mapping[str, float] = {"angstrom": 1.0, "nm": 10.0, "bohr": 0.529177210903}
"""Lengths in A."""
UNIT_ROWS = 1000
"""Rows whose smallest distances tell the unit."""
HELD_OUT = ("eval", "test")
DUPLICATE = "id that an earlier row has"


@dataclass(frozen=True, kw_only=True)
class AtomsPart:
    """Rows of a shard to be."""

    rows: list[Row] = field(repr=False)

    @property
    def num_rows(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def records(self) -> Iterator[Record]:
        """The rows, with their identity among the cells."""
        for row in self.rows:
            yield Record(cells={**row.cells, "id": row.id}, path=row.where)


@dataclass(frozen=True, kw_only=True)
class AtomsIngest(Ingest):
    """The common part of molecules and crystals."""

    rows_per_group: int = 512
    """Rows per row group, the unit that is read and shuffled."""
    rows_per_shard: int = 8192
    """Rows per file; a task holds one file in memory."""
    unit: Unit = "angstrom"
    """Unit of the source's lengths."""
    max_bad_fraction: float = 0.01
    """Largest share of rows of a split that may be refused, 0..1; 0 = none may."""
    train_on_validation: bool = False
    """Train on the validation split as well; what is left is test."""

    reads_all: ClassVar[bool] = True
    checked_rows: ClassVar[int] = 256
    name: ClassVar[str]
    """Name of the data set, in the hash that splits it."""
    shares: ClassVar[tuple[int, int, int]]
    """Train, validation and test where the source says no split, up to a common factor."""
    spacing: ClassVar[tuple[float, float]]
    """Range in A of the median over rows of the smallest distance between atoms."""

    @property
    @abstractmethod
    def config(self) -> AtomsConfig:
        """The domain whose rules rows have to meet."""

    @property
    def most_bad(self) -> float:
        """Largest share of refused rows."""
        return self.max_bad_fraction

    def check(self) -> None:
        """ValueError for a share that is none."""
        if not 0 <= self.max_bad_fraction <= 1:
            raise ValueError(f"max_bad_fraction = {self.max_bad_fraction} must lie in 0..1")
        super().check()

    @abstractmethod
    def rows(self, faults: Faults) -> Iterator[Row]:
        """All rows of the source; those that are no part of the data set are counted."""

    @abstractmethod
    def parse(self, cells: Mapping[str, Any]) -> dict[str, Any]:
        """Stored columns of a row as arrays, lengths in A; ValueError "reason: details"."""

    def tells_unit(self, arrays: Mapping[str, Any]) -> bool:
        """True if the smallest distance of a row is one of those that `spacing` is about."""
        return True

    def split_of_ids(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Splits of ids of a source that says none."""
        return hash_split(self.name, ids, self.shares)

    def excluded(self, ids: Iterable[str]) -> Mapping[str, str]:
        """Ids that are no part of the data set -> the reason."""
        return {}

    def notes(self, rows: list[Row]) -> tuple[str, ...]:
        """Notes of the plan on rows that are kept."""
        return ()

    def sources(self, out: Store) -> dict[str, Source]:
        """Train, and validation and test as eval and test; eval is test where there is one only."""
        faults = Faults()
        rows = list(self.rows(faults))
        self._check_read(len(rows), faults)
        rows = self._kept(rows, faults)
        parts = self._parts(rows)
        self._check_unit(rows)
        skipped, notes = faults.counts, self.notes(rows)
        return {
            split: self._source(split, members, skipped if split == "train" else {}, notes)
            for split, members in parts.items()
        }

    def encode(self, record: Record) -> dict[str, Any]:
        """Little-endian columns of a row."""
        arrays = self.stored(self.parse(record.cells))
        columns = {name: _packed(name, values) for name, values in arrays.items()}
        return {"id": record.cells["id"], "num_atoms": len(arrays["numbers"]), **columns}

    def stored(self, arrays: dict[str, Any]) -> dict[str, Any]:
        """The arrays in the form that is stored."""
        return arrays

    def refused(self, rows: list[dict[str, Any]]) -> dict[int, str]:
        """Rows that the domain, which will read them in training, finds fault with."""
        if not rows:
            return {}
        _, bad = decode({name: [row[name] for row in rows] for name in rows[0]}, self.config)
        return dict(bad)

    def settings(self) -> dict[str, Any]:
        """Everything but the source, the place and what only refuses."""
        without = ("source", "out", "max_bad_fraction")
        names = sorted({item.name for item in fields(self)} - {*without})
        return {name: getattr(self, name) for name in names}

    def describe(self) -> dict[str, Any]:
        """Stored form and the rules that rows have met."""
        return {
            "encoding": "little-endian arrays, lengths in A",
            "data_set": self.name,
            "max_atoms": self.config.max_atoms,
            "elements": list(self.config.elements),
        }

    def _check_read(self, num_rows: int, faults: Faults) -> None:
        """ShardError when nothing was read, or when more was unreadable than may be refused."""
        if not num_rows:
            lost = f", {faults.unreadable:,} that cannot be read" if faults.unreadable else ""
            raise ShardError(f"{self.source} holds no structures{lost}")
        total = num_rows + faults.unreadable
        if faults.unreadable > self.max_bad_fraction * total:
            reasons = ", ".join(f"{n:,} x {reason}" for reason, n in faults.counts.items())
            raise ShardError(
                f"{faults.unreadable:,} of {count(total, self.noun)} of {self.source} cannot be "
                f"read, more than {self.max_bad_fraction:.1%}: {reasons}. Repair the source, or "
                "raise --max-bad-fraction"
            )

    def _kept(self, rows: list[Row], faults: Faults) -> list[Row]:
        """Rows of the data set, each id once; ShardError for an id in two splits."""
        _refuse_leaks(rows, self.source)
        excluded = self.excluded(row.id for row in rows)
        kept: dict[str, Row] = {}
        for row in rows:
            if row.id in excluded:
                faults.add(excluded[row.id])
            elif row.id in kept:
                faults.add(DUPLICATE)
            else:
                kept[row.id] = row
        return list(kept.values())

    def _parts(self, rows: list[Row]) -> dict[str, list[Row]]:
        """Rows by the split that they are stored as, in the order of their hash."""
        said = {row.id: row.split for row in rows}
        if not any(said.values()):
            said = dict(self.split_of_ids(list(said)))
        elif not all(said.values()):
            lacking = [row.where for row in rows if not row.split]
            raise ShardError(
                f"{self.source}: {count(len(lacking), 'row')} without a split beside others with "
                f"one ({shown(lacking)}); name train, val or test in each"
            )
        by_id = {row.id: row for row in rows}
        members: dict[str, list[Row]] = {}
        for each in hash_order(self.name, said):
            members.setdefault(said[each], []).append(by_id[each])
        return self._stored_splits(members)

    def _stored_splits(self, members: dict[str, list[Row]]) -> dict[str, list[Row]]:
        if self.train_on_validation:
            if "validation" not in members:
                raise ValueError(
                    f"--train-on-validation has no effect: {self.source} has no validation split"
                )
            members["train"] = [*members.get("train", []), *members.pop("validation")]
        if "train" not in members:
            raise ShardError(
                f"{self.source} holds no rows of the training split; --train-on-validation trains "
                "on those of validation"
            )
        held_out = [members[name] for name in ("validation", "test") if name in members]
        return {"train": members["train"], **dict(zip(HELD_OUT, held_out, strict=False))}

    def _source(
        self, split: str, rows: list[Row], skipped: dict[str, int], notes: tuple[str, ...]
    ) -> Source:
        size = self.rows_per_shard
        return Source(
            uri=Store.open(self.source).uri
            if not self.source.startswith("builtin:")
            else self.source,
            num_rows=len(rows),
            parts=[AtomsPart(rows=rows[at : at + size]) for at in range(0, len(rows), size)],
            class_names=None,
            digest=_digest(rows),
            skipped=dict(skipped),
            notes=notes if split == "train" else (),
        )

    def _check_unit(self, rows: list[Row]) -> None:
        """ValueError when the distances of the first rows are those of another unit."""
        found = [self._nearest(row) for row in rows[:UNIT_ROWS]]
        nearest = [distance for distance in found if 0 < distance < np.inf]
        if not nearest:
            return
        low, high = self.spacing
        median = float(np.median(nearest))
        if low <= median <= high:
            return
        fitting = [
            name
            for name, length in UNITS.items()
            if low <= median * length / UNITS[self.unit] <= high
        ]
        hint = f"give --unit {fitting[0]}" if fitting else "no --unit explains it"
        raise ValueError(
            f"{self.source}: the smallest distance between atoms is {median:.2f} A in the median "
            f"of {count(len(nearest), 'row')}, but {low:g} to {high:g} A are usual: {hint}"
        )

    def _nearest(self, row: Row) -> float:
        """Smallest distance in A of a row; 0 when it cannot be read or does not count."""
        try:
            arrays = self.parse(row.cells)
            decoded = {name: np.array(values, np.float64)[None] for name, values in arrays.items()}
            for name in {"positions", "frac"} & decoded.keys():
                decoded[name] = decoded[name].reshape(1, -1, 3)
            return float(smallest_distances(decoded)[0]) if self.tells_unit(arrays) else 0.0
        except (ValueError, RuntimeError):  # RuntimeError: torch, of arrays that do not fit
            return 0.0


def split_word(cell: Any, where: str, said: str = "") -> str:
    """Split of a cell such as `train`, `val` or `test`, of an empty one what the file's name has
    `said`; ShardError for another word and for numbers, which say no split."""
    word = said if cell is None or cell == "" else cell
    if word == "":
        return ""
    found = SPLIT_WORDS.get(word.strip().lower()) if isinstance(word, str) else None
    if not found:
        raise ShardError(f"{where}: the split {word!r} is none of train, val and test")
    return "validation" if found == "eval" else found


def _refuse_leaks(rows: list[Row], source: str) -> None:
    """ShardError for ids that are in two splits: what is measured would have been trained on."""
    first: dict[str, Row] = {}
    twice = [row for row in rows if first.setdefault(row.id, row).split != row.split]
    if twice:
        row, other = twice[0], first[twice[0].id]
        raise ShardError(
            f"{source}: {count(len(twice), 'id')} in two splits, such as {row.id} ({other.where} "
            f"is {other.split}, {row.where} is {row.split}); keep each in one"
        )


def _packed(name: str, values: Any) -> bytes:
    values = np.asarray(values)
    if name == "numbers":
        wrong = ~((values >= 0) & (values <= 255) & (values == np.rint(values)))  # also NaN
        if wrong.any():
            raise ValueError(f"unknown_element: atomic number {values[wrong][0]}")
    kind = {"numbers": "u1", "positions": "<f4"}.get(name, "<f8")
    with np.errstate(over="ignore"):  # what becomes infinite is refused as such
        return values.astype(kind).tobytes()


def _digest(rows: list[Row]) -> str:
    total = hashlib.sha256()
    for row in rows:
        for name, cell in sorted({**row.cells, "id": row.id}.items()):
            data = cell.tobytes() if isinstance(cell, np.ndarray) else str(cell).encode()
            total.update(f"{name} {len(data)} ".encode() + data)
    return total.hexdigest()
