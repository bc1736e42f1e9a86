"""Stability of atoms and molecules as EDM counts it (Hoogeboom et al., ICML 2022, appendix B).

A bond's order follows from its length: the table below holds typical lengths in pm of single,
double and triple bonds, each with a margin. An atom is stable when its orders add up to its
valence.
"""

from __future__ import annotations

import numpy as np

from unite.domains.atoms.structure import Structure

VALENCE = {1: 1, 6: 4, 7: 3, 8: 2, 9: 1}
"""Atomic number -> sum of bond orders of a stable atom."""
MARGINS = (10.0, 5.0, 3.0)
"""Margins in pm beyond the lengths of single, double and triple bonds."""
_SINGLE = {
    **{(1, 1): 74, (1, 6): 109, (1, 7): 101, (1, 8): 96, (1, 9): 92},
    **{(6, 6): 154, (6, 7): 147, (6, 8): 143, (6, 9): 135},
    **{(7, 7): 145, (7, 8): 140, (7, 9): 136, (8, 8): 148, (8, 9): 142, (9, 9): 142},
}
_DOUBLE = {(6, 6): 134, (6, 7): 129, (6, 8): 120, (7, 7): 125, (7, 8): 121, (8, 8): 121}
_TRIPLE = {(6, 6): 120, (6, 7): 116, (6, 8): 113, (7, 7): 110}


def _table(lengths: dict[tuple[int, int], int], margin: float) -> np.ndarray:
    """Largest length in A of a bond between two elements, (10, 10); minus 1 where there is none."""
    table = np.full((10, 10), -1.0)
    for (first, second), length in lengths.items():
        table[first, second] = table[second, first] = (length + margin) / 100
    return table


_LARGEST = [
    _table(lengths, margin)
    for lengths, margin in zip((_SINGLE, _DOUBLE, _TRIPLE), MARGINS, strict=True)
]


def stable_atoms(molecule: Structure) -> np.ndarray:
    """True for each atom (N,) whose bond orders add up to its valence.

    ValueError for an element without a valence here: the tables are QM9's.
    """
    numbers = np.asarray(molecule.numbers, np.int64)
    unknown = sorted(set(numbers.tolist()) - set(VALENCE))
    if unknown:
        raise ValueError(f"EDM's stability knows H C N O F, not atomic number {unknown[0]}")
    apart = np.linalg.norm(molecule.positions[:, None] - molecule.positions[None], axis=-1)
    np.fill_diagonal(apart, np.inf)
    single, double, triple = (table[numbers[:, None], numbers[None]] for table in _LARGEST)
    # A bond that is short enough for a triple one is also short enough for a double one.
    orders = (apart < single).astype(int)
    orders += orders * (apart < double)
    orders += (orders == 2) * (apart < triple)
    return orders.sum(1) == np.array([VALENCE[number] for number in numbers.tolist()])
