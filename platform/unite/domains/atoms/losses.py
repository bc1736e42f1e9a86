"""Terms of the reconstruction loss, and the native quality of a reconstruction (METHOD 7).

A term over atoms is their sum divided by (samples x the training set's mean atoms per sample), a
constant, so that it does not depend on how a batch is cut. Shapes: B batch, N atoms.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from unite.config.domains import AtomsConfig, CrystalsConfig, MoleculesConfig
from unite.domains.atoms.embedder import to_circle
from unite.domains.atoms.geometry import (
    bonds,
    cell_matrix,
    center,
    distances,
    kabsch_rmsd,
    volume,
)

Atoms = Mapping[str, Tensor]

HUBER_BEND = 0.1
"""Error in A at which the Huber error turns from squares to lines."""
SITE_TOLERANCE, LENGTH_TOLERANCE, ANGLE_TOLERANCE = 0.5, 0.3, 10.0
"""Tolerances of a crystal's match: rmsd / (V / N)^(1/3), relative lengths, angles in degrees."""
ADIT_POSITIONS = 0.1
"""Weight of ADiT's squared error in A^2: ten times that of nm^2."""


def molecule_terms(atoms: Atoms, sample: Atoms, config: MoleculesConfig) -> dict[str, Tensor]:
    """`types`, the cross entropy in nat, and `positions`; both targets centred."""
    mask_BN = sample["mask"]
    target_BN3 = center(sample["pos"], mask_BN)
    if config.loss == "adit":
        error_BN3 = ADIT_POSITIONS * (atoms["pos"].float() - target_BN3).square()
    else:
        error_BN3 = F.smooth_l1_loss(
            atoms["pos"].float(), target_BN3, beta=HUBER_BEND, reduction="none"
        )
    positions = per_sample(error_BN3.mean(-1), mask_BN, config.mean_atoms)
    return {"types": _cross_entropy(atoms, sample, config.mean_atoms), "positions": positions}


def crystal_terms(atoms: Atoms, sample: Atoms, config: CrystalsConfig) -> dict[str, Tensor]:
    """`types` in nat, `positions` of squared fractional differences, and `lattice`.

    The lattice term is the mean over samples of the squared errors of lengths / N^(1/3) in A and of
    angles in rad, with the config's weights.
    """
    mask_BN = sample["mask"]
    positions = per_sample(_frac_error(atoms, sample, config), mask_BN, config.mean_atoms)
    root_B1 = mask_BN.sum(1)[:, None] ** (1 / 3)
    lengths = ((atoms["lengths"].float() - sample["lengths"]) / root_B1).square().mean()
    angles = torch.deg2rad(atoms["angles"].float() - sample["angles"]).square().mean()
    return {
        "types": _cross_entropy(atoms, sample, config.mean_atoms),
        "positions": positions,
        "lattice": config.lengths_weight * lengths + config.angles_weight * angles,
    }


def _frac_error(atoms: Atoms, sample: Atoms, config: CrystalsConfig) -> Tensor:
    """Squared error of fractional coordinates, (B, N), mean of three.

    On circles that of the points over 4 pi^2: for small errors the same, and smooth everywhere.
    """
    if "circle" in atoms:
        error_BN6 = (atoms["circle"].float() - to_circle(sample["frac"])).square()
        return error_BN6.sum(-1) / (3 * (2 * math.pi) ** 2)
    difference_BN3 = atoms["frac"].float() - sample["frac"]
    if config.loss == "unite":
        difference_BN3 = wrapped(difference_BN3)
    return difference_BN3.square().mean(-1)


def wrapped(difference: Tensor) -> Tensor:
    """Differences of fractional coordinates to the nearest image, in [-0.5, 0.5]."""
    return difference - difference.round().detach()


def per_sample(values_BN: Tensor, mask_BN: Tensor, mean_atoms: float) -> Tensor:
    """Sum over atoms, divided by (samples x mean atoms): a scalar."""
    return (values_BN * mask_BN).sum() / (len(mask_BN) * mean_atoms)


def _cross_entropy(atoms: Atoms, sample: Atoms, mean_atoms: float) -> Tensor:
    logits_BEN = atoms["logits"].float().transpose(1, 2)
    values_BN = F.cross_entropy(logits_BEN, sample["types"], reduction="none", ignore_index=0)
    return per_sample(values_BN, sample["mask"], mean_atoms)


def predicted_types(atoms: Atoms) -> Tensor:
    """Most probable types (B, N), int64; 0 at padding."""
    return atoms["logits"].argmax(-1) * atoms["mask"]


def molecule_metrics(atoms: Atoms, sample: Atoms, config: MoleculesConfig) -> dict[str, Tensor]:
    """Per molecule: `match_pct` (native), `exact_pct`, `types_pct` and `rmsd_all` in A.

    A match has all types equal and the same bonds, by index (METHOD 7). The superposition is a
    proper rotation over all atoms, whether or not they match.
    """
    mask_BN, types_BN = sample["mask"], predicted_types(atoms)
    rmsd_B = kabsch_rmsd(atoms["pos"], sample["pos"], mask_BN)
    same_B = _same_bonds(types_BN, atoms["pos"].float(), sample, config.bond_tolerance)
    return {
        "match_pct": 100.0 * ((types_BN == sample["types"]).all(1) & same_B),
        "rmsd_all": rmsd_B.float(),
        **_type_metrics(types_BN, sample),
    }


def _same_bonds(types_BN: Tensor, pos_BN3: Tensor, sample: Atoms, tolerance: float) -> Tensor:
    mask_BN = sample["mask"]
    predicted = bonds(types_BN, distances(pos_BN3, mask_BN), tolerance)
    true = bonds(sample["types"], distances(sample["pos"], mask_BN), tolerance)
    return (predicted == true).all(2).all(1)


def crystal_metrics(atoms: Atoms, sample: Atoms) -> dict[str, Tensor]:
    """Per crystal: `match_pct` (native), `exact_pct`, `types_pct` and `rmsd_all` in A.

    `rmsd_all` is of wrapped fractional differences, by index, through the true cell. A match has
    all types equal and stays within the tolerances of pymatgen's StructureMatcher as METHOD 7
    sets them, atom by atom: it looks for no other cell and no other order.
    """
    mask_BN, types_BN = sample["mask"], predicted_types(atoms)
    difference_BN3 = wrapped(atoms["frac"].float() - sample["frac"])
    apart_BN3 = difference_BN3 @ cell_matrix(sample["lengths"], sample["angles"])
    squared_B = (apart_BN3.square().sum(-1) * mask_BN).sum(1) / mask_BN.sum(1)
    rmsd_B = squared_B.sqrt()
    error_B3 = (atoms["lengths"].float() - sample["lengths"]).abs() / sample["lengths"]
    turned_B3 = (atoms["angles"].float() - sample["angles"]).abs()
    spacing_B = (volume(sample["lengths"], sample["angles"]) / mask_BN.sum(1)) ** (1 / 3)
    match_B = (types_BN == sample["types"]).all(1) & (rmsd_B < SITE_TOLERANCE * spacing_B)
    match_B &= (error_B3 < LENGTH_TOLERANCE).all(1) & (turned_B3 < ANGLE_TOLERANCE).all(1)
    return {
        "match_pct": 100.0 * match_B,
        "rmsd_all": rmsd_B,
        **_type_metrics(types_BN, sample),
    }


def _type_metrics(types_BN: Tensor, sample: Atoms) -> dict[str, Tensor]:
    right_BN = (types_BN == sample["types"]) & sample["mask"]
    share_B = right_BN.sum(1) / sample["mask"].sum(1)
    return {"types_pct": 100.0 * share_B, "exact_pct": 100.0 * (share_B == 1)}


def loss_of(terms: Mapping[str, Tensor], config: AtomsConfig) -> Tensor:
    """Cross entropy + position_weight * positions + the lattice term."""
    total = terms["types"] + config.position_weight * terms["positions"]
    return total + terms["lattice"] if "lattice" in terms else total
