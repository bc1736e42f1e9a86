"""Judgement of molecules and crystals: verdicts and geometry of each, as columns (METHOD 7).

The same routine judges drawn and true structures. A column has a value for each structure, or as
many as another column says (`metrics.atoms.judged.OWNERS`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from unite.config.domains import AtomsConfig
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.chemistry import POSE_COLUMNS, fields_of, versions
from unite.domains.atoms.verdicts.crystals import (
    composition_valid,
    density,
    smact_digest,
    structure_problem,
)
from unite.domains.atoms.verdicts.isolated import TIMEOUT, Worker
from unite.domains.atoms.verdicts.stability import VALENCE, stable_atoms
from unite.evaluation.instruments import Instruments
from unite.metrics.atoms.distributions import bond_angles, bond_lengths, ring_sizes
from unite.metrics.errors import MetricError

PLAIN, PARITY, POSES = "rdkit", "adit", "posebusters"
"""Tasks of molecules: RDKit on bonds by distance, the route of ADiT's code, PoseBusters."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Everything that a judgement depends on, besides the structure."""

    periodic: bool
    """True for crystals."""
    tasks: tuple[str, ...] = ()
    """Tasks of chemistry packages, of those in `verdicts.chemistry`."""
    packages: tuple[tuple[str, str], ...] = ()
    """Packages of these tasks with their versions, and the digest of SMACT's table."""
    tolerance: float = 0.25
    """Tolerance of bonds in A."""
    stability: bool = False
    """True where EDM's tables know every element."""
    geometry: bool = True
    """False for a list of names alone."""
    poses: int = 0
    """Structures, the first ones, that PoseBusters judges."""

    @classmethod
    def of(cls, config: AtomsConfig, poses: int = 0) -> tuple[Self, tuple[str, ...]]:
        """The rules of a domain with the packages that are installed, and words on the others.

        ValueError where PoseBusters is asked for and missing.
        """
        if poses:
            versions((POSES,))
        there, missing = installed(() if config.periodic else (PLAIN, PARITY))
        tasks = (*there, POSES) if poses else there
        smact = {"smact": smact_digest()} if config.periodic else {}
        known = bool(config.elements) and set(config.elements) <= set(VALENCE)
        rules = cls(
            periodic=config.periodic,
            tasks=tasks,
            packages=tuple(sorted((versions(tasks) | smact).items())),
            tolerance=getattr(config, "bond_tolerance", cls.tolerance),
            stability=not config.periodic and known,
            poses=poses,
        )
        return rules, missing

    @property
    def names_alone(self) -> Self:
        """The rules that only name structures, for lists of known ones."""
        tasks = tuple(task for task in self.tasks if task == PLAIN)
        packages = tuple(sorted(versions(tasks).items()))
        return replace(self, tasks=tasks, packages=packages, geometry=False, poses=0)

    def judge(
        self, structures: Mapping[int, Structure], instruments: Instruments
    ) -> dict[str, np.ndarray]:
        """Columns of structures by index; MetricError where a package has another version here."""
        check_packages(self.packages, self.tasks)
        if self.periodic:
            return _crystals(list(structures.values()))
        return self._verdicts(structures, instruments) | self._geometry(list(structures.values()))

    def _verdicts(
        self, structures: Mapping[int, Structure], instruments: Instruments
    ) -> dict[str, np.ndarray]:
        columns: dict[str, np.ndarray] = {}
        timeouts = np.zeros(len(structures), np.int64)
        for task in self.tasks:
            asked = {i: s for i, s in structures.items() if task != POSES or i < self.poses}
            found = ask(task, list(asked.values()), self.tolerance, instruments)
            late = [each.get("error") == TIMEOUT for each in found]
            timeouts[: len(found)] += np.array(late, np.int64)
            columns |= _columns(task, found)
        return columns | {"timeouts": timeouts}

    def _geometry(self, molecules: Sequence[Structure]) -> dict[str, np.ndarray]:
        if not self.geometry:
            return {}
        columns = {"atoms": np.array([len(each.numbers) for each in molecules])}
        if self.stability:
            columns["stable"] = np.array([stable_atoms(each).sum() for each in molecules])
        return columns | _shape(molecules, self.tolerance)


def check_packages(packages: Sequence[tuple[str, str]], tasks: tuple[str, ...]) -> None:
    """MetricError where a package of the tasks has another version here than `packages` say."""
    here = versions(tasks)
    if other := {name: v for name, v in packages if here.get(name, v) != v}:
        raise MetricError(
            f"this worker has {', '.join(f'{name} {here[name]}' for name in other)}, but the "
            f"evaluation was begun with {other}: install the same versions on all machines"
        )


def crystals_valid(crystals: Sequence[Structure]) -> np.ndarray:
    """True for each crystal that is valid by structure and composition."""
    columns = _crystals(crystals)
    return columns["struct"] & columns["comp"]


def installed(tasks: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tasks whose packages are installed, and words on the others."""
    there: list[str] = []
    missing: list[str] = []
    for task in tasks:
        try:
            versions((task,))
            there.append(task)
        except ValueError as error:
            missing.append(str(error))
    return tuple(there), tuple(dict.fromkeys(missing))


def ask(
    task: str,
    structures: Sequence[Structure],
    tolerance: float,
    instruments: Instruments,
    trues: Sequence[Structure] = (),
) -> list[dict[str, Any]]:
    """Verdicts of a chemistry task on each structure, or each pair with `trues`, in a process that
    this worker keeps; MetricError where its packages do not work."""
    try:
        worker: Worker = instruments.cached(("chemistry", task), lambda: Worker.of(task))
    except ValueError as error:
        raise MetricError(str(error)) from error
    pairs = [{"true": fields_of(each)} for each in trues] or [{} for _ in structures]
    return [
        worker.ask(task, fields_of(each, tolerance=tolerance, **pair))
        for each, pair in zip(structures, pairs, strict=True)
    ]


def _columns(task: str, found: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]:
    """Verdicts of a task as columns; an error counts as invalid."""
    if task == POSES:
        rows = [[bool(each.get(name)) for name in POSE_COLUMNS] for each in found]
        return {"poses": np.array(rows, bool).reshape(-1, len(POSE_COLUMNS))}
    columns = {task: np.array([bool(each.get("valid")) for each in found])}
    columns[f"{task}_smiles"] = np.array([each.get("smiles", "") for each in found], str)
    if task == PLAIN:
        columns["strict"] = np.array([bool(each.get("strict")) for each in found])
    return columns


def _shape(molecules: Sequence[Structure], tolerance: float) -> dict[str, np.ndarray]:
    """Elements, bonds, angles and rings of all molecules, with their number in each."""
    bonded = [each.bonds(tolerance) for each in molecules]
    kinds, lengths = zip(*map(bond_lengths, molecules, bonded), strict=True)
    angles = list(map(bond_angles, molecules, bonded))
    rings = list(map(ring_sizes, bonded))
    return {
        "numbers": np.concatenate([each.numbers for each in molecules]).astype(np.uint8),
        "bonds": np.array([len(each) for each in kinds]),
        "bond_kinds": np.concatenate(kinds),
        "bond_lengths": np.concatenate(lengths),
        "angles": np.array([len(each) for each in angles]),
        "bond_angles": np.concatenate(angles),
        "rings": np.array([len(each) for each in rings]),
        "ring_sizes": np.concatenate(rings).astype(np.uint8),
    }


def _crystals(crystals: Sequence[Structure]) -> dict[str, np.ndarray]:
    struct = np.array([not structure_problem(each) for each in crystals], bool)
    pairs = zip(crystals, struct, strict=True)
    return {
        "struct": struct,
        "comp": np.array([composition_valid(each.numbers.tolist()) for each in crystals], bool),
        "density": np.array([density(each) if good else np.nan for each, good in pairs], float),
        "num_elements": np.array([len(set(each.numbers.tolist())) for each in crystals]),
    }
