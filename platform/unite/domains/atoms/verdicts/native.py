"""A verdict on one structure, with its reason, that needs no chemistry package."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.crystals import composition_valid, structure_problem
from unite.domains.atoms.verdicts.stability import VALENCE, stable_atoms


@dataclass(frozen=True)
class Verdict:
    """A judgement on one sample."""

    good: bool
    text: str
    """One or two words, such as valid."""
    reason: str = ""
    """Reason where it is not good."""


def native_verdict(structure: Structure, tolerance: float) -> Verdict:
    """Crystals: valid by structure and composition. Molecules: one fragment of stable atoms.

    `tolerance` is that of bonds in A. Where there is no valence for an element, fragments decide.
    """
    if structure.frac is not None:
        reason = structure_problem(structure)
        if not reason and not composition_valid(structure.numbers.tolist()):
            reason = "no neutral oxidation states"
        return Verdict(not reason, "invalid" if reason else "valid", reason)
    if not np.isfinite(structure.positions).all():
        return Verdict(False, "unstable", "not finite")
    count = fragments(structure.bonds(tolerance))
    if count > 1:
        return Verdict(False, "unstable", f"{count} fragments")
    if set(structure.numbers.tolist()) <= set(VALENCE):
        unstable = int((~stable_atoms(structure)).sum())
        if unstable:
            return Verdict(False, "unstable", f"{unstable} of {len(structure.numbers)} valences")
    return Verdict(True, "stable")


def fragments(bonded_NN: np.ndarray) -> int:
    """Number of parts that bonds connect."""
    from scipy.sparse.csgraph import connected_components

    return int(connected_components(bonded_NN, directed=False, return_labels=False))
