"""Crystals that are alike: groups among valid ones, and groups that known crystals fit (METHOD 7).

A chunk is no range of crystals but a part of the formulas, each of which lies in one chunk whole:
so its groups depend on no number of chunks. Only crystals of one reduced formula are compared.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from unite.config.domains import AtomsConfig
from unite.domains.atoms.elements import formula
from unite.domains.atoms.structure import Structure
from unite.evaluation.atoms.rules import ask, check_packages, crystals_valid
from unite.evaluation.atoms.samples import Samples
from unite.evaluation.chunks import Chunk, partition
from unite.evaluation.dataset import Dataset
from unite.evaluation.instruments import Instruments
from unite.evaluation.suite import Task, read_chunks
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals

COMPARE = "alike_crystals"
"""Task of `verdicts.chemistry` that compares two crystals."""
COLUMNS = ("first", "trained", "listed")
"""Columns of valid crystals; see `grouped`."""
Alike = Callable[[Structure, Sequence[Structure]], bool]
"""Function of a crystal and others: True if it fits one of them."""


@dataclass(frozen=True, kw_only=True)
class AlikeCrystals(Task):
    """Groups among the valid ones of drawn or true crystals, and those groups that are known."""

    suite: ClassVar[str] = "alike"
    on_cpu: ClassVar[bool] = True

    source: Samples | Dataset
    """The crystals."""
    known: tuple[Dataset, ...]
    """The training set first, then further ones to look for them in."""
    domain: AtomsConfig
    packages: tuple[tuple[str, str], ...]
    """Packages that compare, with their versions, and the digest of SMACT's table."""

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """One row for each valid crystal."""
        return {"alike/": Stack(*COLUMNS)}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Group the crystals whose formulas are the chunk's."""
        check_packages(self.packages, (COMPARE,))
        found = self._formulas(self.source, instruments)
        known = [self._formulas(data, instruments) for data in self.known]

        def alike(crystal: Structure, others: Sequence[Structure]) -> bool:
            return any(
                ask(COMPARE, [other], 0.0, instruments, [crystal])[0].get("alike", False)
                for other in others
            )

        own = (name for name in found if part_of(name, chunk.count) == chunk.index)
        for name in own:
            good = crystals_valid(found[name])
            valid = [each for each, kept in zip(found[name], good, strict=True) if kept]
            lists = [others.get(name, []) for others in known]
            totals["alike/"].update(**grouped(valid, lists, alike))

    def _formulas(
        self, source: Samples | Dataset, instruments: Instruments
    ) -> dict[str, list[Structure]]:
        """Crystals of a source by reduced formula, in their order; read once by each worker."""
        if isinstance(source, Dataset):
            return instruments.cached(
                ("formulas", source), lambda: by_formula(self._true(source, instruments))
            )
        return instruments.cached(
            ("formulas", source.digest),
            lambda: by_formula(s for c in source.chunks() for s in source.read(c).values()),
        )

    def _true(self, data: Dataset, instruments: Instruments) -> Iterable[Structure]:
        domain: Any = instruments.domain(self.domain)
        (whole,) = partition(self.suite, data.num_rows, 1)
        for rows in instruments.rows(data, self.domain, whole):
            yield from domain.structures(domain.as_reconstruction(rows.sample), rows.mask_BK)

    def counts(self) -> dict[str, int]:
        """Valid crystals, their groups, and the groups that the training set and all sets lack."""
        totals: Any = self.merged(read_chunks(self))
        rows = totals["alike/"].result()
        first, trained, listed = (rows.get(name, np.zeros(0, bool)) for name in COLUMNS)
        return {
            "valid": len(first),
            "groups": int(first.sum()),
            "novel": int((first & ~trained).sum()),
            "novel_all": int((first & ~listed).sum()),
        }


def by_formula(crystals: Iterable[Structure]) -> dict[str, list[Structure]]:
    """Crystals by their reduced formula, in their order."""
    found: dict[str, list[Structure]] = defaultdict(list)
    for crystal in crystals:
        counts = Counter(crystal.numbers.tolist())
        divisor = math.gcd(*counts.values())
        reduced = Counter({number: count // divisor for number, count in counts.items()})
        found[formula(reduced.elements())].append(crystal)
    return dict(found)


def part_of(name: str, count: int) -> int:
    """Part, 0..count - 1, in which a formula lies: a hash, so that parts are about equal."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % count


def grouped(
    crystals: Sequence[Structure], known: Sequence[Sequence[Structure]], alike: Alike
) -> dict[str, np.ndarray]:
    """Columns of crystals of one formula, bool (S,), with the training set first in `known`.

    `first` of a group: no first one before it fits the crystal, as StructureMatcher groups them.
    `trained` and `listed`: a training crystal, or one of any list, fits it; False unless first.
    """
    firsts: list[Structure] = []
    columns: dict[str, list[bool]] = {name: [] for name in COLUMNS}
    for crystal in crystals:
        first = not alike(crystal, firsts)
        firsts += [crystal] if first else []
        trained = first and alike(crystal, known[0])
        listed = trained or (first and any(alike(crystal, others) for others in known[1:]))
        for name, value in zip(COLUMNS, (first, trained, listed), strict=True):
            columns[name].append(value)
    return {name: np.array(values, bool) for name, values in columns.items()}
