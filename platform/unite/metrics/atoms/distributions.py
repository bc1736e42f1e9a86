"""Distances between sets of structures that do not saturate: bonds, angles, elements, rings.

Wasserstein-1 of bond lengths and angles, total variation of element and ring-size frequencies.
Their truth is two halves of the held-out set against each other.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from unite.domains.atoms.elements import SYMBOLS
from unite.domains.atoms.structure import Structure

LARGEST_RING = 9
"""Largest ring that is looked for, in atoms: QM9's molecules have nine heavy atoms."""
MISSING = 1.0
"""Distance in A of a kind of bond that one of the two sets does not have."""


def wasserstein_1(first: np.ndarray, second: np.ndarray) -> float:
    """Wasserstein-1 distance of two samples on the line; NaN when one of them is empty."""
    from scipy.stats import wasserstein_distance

    if not len(first) or not len(second):
        return float("nan")
    return float(wasserstein_distance(first, second))


def total_variation(first: Mapping[Hashable, float], second: Mapping[Hashable, float]) -> float:
    """Total variation distance of two sets of counts, 0 (equal frequencies) .. 1 (nothing shared).

    NaN when one of them is empty.
    """
    sums = [sum(each.values()) for each in (first, second)]
    if not all(sums):
        return float("nan")
    names = {*first, *second}
    return 0.5 * sum(abs(first.get(n, 0) / sums[0] - second.get(n, 0) / sums[1]) for n in names)


def bond_lengths(molecule: Structure, bonded_NN: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of all bonds, such as H-C, in the order of their elements, and lengths in A."""
    first, second = np.nonzero(np.triu(bonded_NN))
    lengths = np.linalg.norm(molecule.positions[first] - molecule.positions[second], axis=1)
    ends = np.sort(molecule.numbers[np.stack([first, second], 1)], axis=1)
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    kinds = [f"{SYMBOLS[one]}-{SYMBOLS[other]}" for one, other in ends[order]]
    return np.array(kinds, "U8"), lengths[order]


def w1_bonds(first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray]) -> float:
    """Wasserstein-1 of lengths in A per kind, averaged with the frequencies of `second`, the data.

    A kind that the first set lacks counts with MISSING.
    """
    total = sum(map(len, second.values()))
    terms = (
        len(lengths) * (wasserstein_1(first[kind], lengths) if kind in first else MISSING)
        for kind, lengths in second.items()
    )
    return sum(terms) / total if total else float("nan")


def bond_angles(molecule: Structure, bonded_NN: np.ndarray) -> np.ndarray:
    """All angles between two bonds of an atom, in degrees; atoms in one place have none."""
    found = [np.zeros(0)]
    for center, bonded_N in enumerate(bonded_NN):
        ends = molecule.positions[bonded_N] - molecule.positions[center]
        if len(ends) > 1:
            units = ends / np.linalg.norm(ends, axis=1, keepdims=True)
            cosines = (units @ units.T)[np.triu_indices(len(ends), 1)]
            found.append(np.degrees(np.arccos(np.clip(cosines, -1, 1))))
    angles = np.concatenate(found)
    return angles[np.isfinite(angles)]


def ring_sizes(bonded_NN: np.ndarray) -> list[int]:
    """Sizes of a molecule's rings of up to LARGEST_RING atoms, ascending; [0] without one.

    Rings are one smallest ring through each bond, each set of atoms once. Where several are as
    small, the order of the atoms decides, as in CC12CC3CC1C2CO3: 3 5 6 or 3 5 6 6 (5 of 300 true
    molecules of QM9 have other sizes in another order).
    """
    return sorted(map(len, _rings(bonded_NN))) or [0]


def _rings(bonded_NN: np.ndarray) -> set[frozenset[int]]:
    """Smallest ring through each bond, as sets of atoms."""
    neighbours = [set(np.flatnonzero(row).tolist()) for row in bonded_NN]
    rings = set()
    for start, ends in enumerate(neighbours):
        for end in ends:
            if start < end and (path := _path(neighbours, start, end)):
                rings.add(frozenset(path))
    return rings


def _path(neighbours: Sequence[set[int]], start: int, end: int) -> list[int]:
    """Shortest path of at most LARGEST_RING atoms from start to end but for their own bond."""
    paths, seen = [[start]], {start}
    for _ in range(LARGEST_RING - 1):
        longer = []
        for path in paths:
            for atom in sorted(neighbours[path[-1]]):
                if atom == end and len(path) > 1:
                    return [*path, atom]
                if atom not in seen and atom != end:
                    seen.add(atom)
                    longer.append([*path, atom])
        paths = longer
    return []
