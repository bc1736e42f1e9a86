"""Validity of crystals without a chemistry package: structure, composition, density (METHOD 7).

The composition's rule is that of SMACT (Davies et al., JOSS 4, 1361, 2019) as CDVAE and ADiT use
it, over a frozen table, `smact.json`: later releases of SMACT change states and rules. Unlike ADiT,
a crystal is not also asked for a CrystalNN fingerprint.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Sequence
from functools import cache
from importlib.resources import files

import numpy as np

from unite.domains.atoms.elements import MASSES, SYMBOLS
from unite.domains.atoms.structure import Structure
from unite.lazy import torch

SMALLEST_DISTANCE = 0.5
"""Distance in A that two atoms, their images included, must keep."""
SMALLEST_VOLUME = 0.1
"""Volume in A^3 that a cell must have."""
ANGLES = (50.0, 130.0)
"""Range of a cell's angles in degrees, both ends excluded."""
ANGLE_RULE = {"cell_angles": ANGLES}
"""The range as cards of what is valid have it."""
MOST_COMBINATIONS = 10_000_000
"""Combinations of oxidation states beyond which a composition counts as invalid, untried."""
REACH = 2
"""Images of the cell along each vector in which neighbours are sought."""
GRAM_PER_CM3 = 1.66053906660
"""Density of one u per A^3."""


def structure_problem(crystal: Structure) -> str:
    """Reason why a crystal is structurally invalid; empty when it is valid."""
    from unite.domains.atoms.geometry import cell_matrix, periodic_distances, volume

    if crystal.frac is None or crystal.lengths is None or crystal.angles is None:
        raise ValueError("a molecule has no cell")
    values = (crystal.frac, crystal.lengths, crystal.angles)
    if not all(np.isfinite(each).all() for each in values):
        return "not finite"
    if not (crystal.lengths > 0).all():
        return "a length is not positive"
    if not ((crystal.angles > ANGLES[0]) & (crystal.angles < ANGLES[1])).all():
        return f"an angle is outside {ANGLES[0]:g}..{ANGLES[1]:g} degrees"
    lengths, angles = (torch.from_numpy(np.array(v, float))[None] for v in values[1:])
    if not volume(lengths, angles).item() >= SMALLEST_VOLUME:
        return f"the volume is under {SMALLEST_VOLUME} A^3"
    frac, mask = torch.from_numpy(np.array(crystal.frac, float))[None], None
    mask = torch.ones(frac.shape[:2], dtype=torch.bool)
    apart = periodic_distances(frac, cell_matrix(lengths, angles), mask, REACH).min().item()
    return "" if apart >= SMALLEST_DISTANCE else f"atoms are {apart:.2f} A apart"


def composition_valid(numbers: Sequence[int]) -> bool:
    """True if a composition has oxidation states that make it neutral and pass the Pauling test.

    One element alone and metals alone are valid. In the Pauling test every cation is less
    electronegative than every anion; an element without a value passes.
    """
    counts = Counter(SYMBOLS[int(number)] for number in numbers)
    table = smact_table()
    if len(counts) == 1 or all(table[symbol].metal for symbol in counts):
        return True
    divisor = math.gcd(*counts.values())
    amounts = [count // divisor for count in counts.values()]
    elements = [table[symbol] for symbol in counts]
    if math.prod(len(element.states) for element in elements) > MOST_COMBINATIONS:
        return False
    return any(
        sum(n * state for n, state in zip(amounts, states, strict=True)) == 0
        and _pauling(states, elements)
        for states in itertools.product(*(element.states for element in elements))
    )


def density(crystal: Structure) -> float:
    """Density in g/cm^3; ValueError for a molecule."""
    from unite.domains.atoms.geometry import volume

    if crystal.lengths is None or crystal.angles is None:
        raise ValueError("a molecule has no cell")
    lengths, angles = (
        torch.from_numpy(np.array(each, float))[None] for each in (crystal.lengths, crystal.angles)
    )
    mass = float(MASSES[np.asarray(crystal.numbers)].sum())
    return GRAM_PER_CM3 * mass / volume(lengths, angles).item()


class Element:
    """An element in SMACT's table: Pauling electronegativity, oxidation states, metal or not."""

    def __init__(self, pauling: float | None, states: Sequence[int], metal: bool) -> None:
        self.pauling, self.states, self.metal = pauling, tuple(states), metal


@cache
def smact_table() -> dict[str, Element]:
    """The frozen table by symbol."""
    content = json.loads(_table_bytes())
    return {symbol: Element(*row) for symbol, row in content["elements"].items()}


@cache
def smact_digest() -> str:
    """SHA-256 of the frozen table, 12 hex digits, for cards."""
    return hashlib.sha256(_table_bytes()).hexdigest()[:12]


def _table_bytes() -> bytes:
    return files("unite.domains.atoms.verdicts").joinpath("smact.json").read_bytes()


def _pauling(states: Sequence[int], elements: Sequence[Element]) -> bool:
    """True if no cation is as electronegative as an anion, or more."""
    cations = [e.pauling for s, e in zip(states, elements, strict=True) if s > 0 and e.pauling]
    anions = [e.pauling for s, e in zip(states, elements, strict=True) if s < 0 and e.pauling]
    return not cations or not anions or max(cations) < min(anions)
