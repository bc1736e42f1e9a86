"""Cells, periodic distances, bonds and superposition, batched and masked.

Shapes: B batch, N atoms (padded), C images of a cell. Lengths in A, angles in degrees; the rows
of a cell matrix are the vectors a, b, c, so that positions = frac @ cell.
"""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from unite.domains.atoms.elements import RADII


def cell_matrix(lengths_B3: Tensor, angles_B3: Tensor) -> Tensor:
    """Cell matrices (B, 3, 3) in the standard orientation: a along x, b in the x-y plane.

    Angles alpha, beta, gamma in degrees. Impossible triples give NaN.
    """
    a, b, c = lengths_B3.unbind(-1)
    cos_a, cos_b, cos_g = torch.deg2rad(angles_B3).cos().unbind(-1)
    sin_g = torch.deg2rad(angles_B3[..., 2]).sin()
    zero = torch.zeros_like(a)
    c_y = (cos_a - cos_b * cos_g) / sin_g
    c_z = (1 - cos_b.square() - c_y.square()).sqrt()
    rows = [
        torch.stack([a, zero, zero], -1),
        torch.stack([b * cos_g, b * sin_g, zero], -1),
        torch.stack([c * cos_b, c * c_y, c * c_z], -1),
    ]
    return torch.stack(rows, -2)


def volume(lengths_B3: Tensor, angles_B3: Tensor) -> Tensor:
    """Volumes (B,) of cells in A^3; NaN for an impossible triple of angles."""
    cos = torch.deg2rad(angles_B3).cos()
    inner = 1 - cos.square().sum(-1) + 2 * cos.prod(-1)
    return lengths_B3.prod(-1) * inner.sqrt()


def center(pos_BN3: Tensor, mask_BN: Tensor) -> Tensor:
    """Positions with the plain mean of each sample's atoms at the origin; zero at padding."""
    weights_BN1 = mask_BN[..., None].to(pos_BN3.dtype)
    mean_B13 = (pos_BN3 * weights_BN1).sum(1, keepdim=True) / weights_BN1.sum(1, keepdim=True)
    return (pos_BN3 - mean_B13) * weights_BN1


def distances(pos_BN3: Tensor, mask_BN: Tensor) -> Tensor:
    """Distances between the atoms of each sample, (B, N, N); infinite at padding and itself."""
    # Differences and not products, which would lose the digits of near atoms.
    apart_BNN = torch.cdist(pos_BN3, pos_BN3, compute_mode="donot_use_mm_for_euclid_dist")
    return _without_self(apart_BNN, mask_BN)


def periodic_distances(
    frac_BN3: Tensor, cell_B33: Tensor, mask_BN: Tensor, reach: int = 1
) -> Tensor:
    """Shortest distances between atoms over images of the cell, (B, N, N).

    Images up to `reach` cells away along each vector, from differences wrapped into the cell.
    Infinite at padding and between an atom and itself: its own images do not count (METHOD 7).
    """
    difference_BNN3 = frac_BN3[:, :, None] - frac_BN3[:, None]
    difference_BNN3 = difference_BNN3 - difference_BNN3.round()
    shifts = list(itertools.product(range(-reach, reach + 1), repeat=3))
    images_C3 = torch.tensor(shifts, dtype=frac_BN3.dtype, device=frac_BN3.device)
    moved_BNNC3 = (difference_BNN3[..., None, :] + images_C3) @ cell_B33[:, None, None]
    return _without_self(moved_BNNC3.norm(dim=-1).amin(-1), mask_BN)


def _without_self(distance_BNN: Tensor, mask_BN: Tensor) -> Tensor:
    pairs_BNN = mask_BN[:, :, None] & mask_BN[:, None]
    itself_NN = torch.eye(mask_BN.shape[1], dtype=torch.bool, device=mask_BN.device)
    return distance_BNN.masked_fill(~pairs_BNN | itself_NN, torch.inf)


def bonds(types_BN: Tensor, distance_BNN: Tensor, tolerance: float) -> Tensor:
    """True between bonded atoms, (B, N, N): nearer than both covalent radii and `tolerance` A."""
    radii_BN = torch.as_tensor(RADII, device=distance_BNN.device, dtype=distance_BNN.dtype)[
        types_BN
    ]
    return distance_BNN < radii_BN[:, :, None] + radii_BN[:, None] + tolerance


def kabsch_rmsd(pos_BN3: Tensor, target_BN3: Tensor, mask_BN: Tensor) -> Tensor:
    """Root mean squared distance (B,) of atoms after the best translation and proper rotation.

    Atoms correspond by index (Kabsch, Acta Cryst. A32, 922, 1976). float64: the sum of squares of
    coordinates cancels against the singular values.
    """
    first, second = (center(pos.double(), mask_BN) for pos in (pos_BN3, target_BN3))
    covariance_B33 = first.transpose(1, 2) @ second
    values_B3 = torch.linalg.svdvals(covariance_B33)
    mirrored_B = torch.linalg.det(covariance_B33) < 0
    trace_B = values_B3.sum(-1) - 2 * values_B3[:, 2] * mirrored_B
    squared_B = first.square().sum((1, 2)) + second.square().sum((1, 2)) - 2 * trace_B
    return (squared_B.clamp_min(0) / mask_BN.sum(1)).sqrt()


def rotations(normal_B4: Tensor) -> Tensor:
    """Uniform proper rotations (B, 3, 3) from four standard normal numbers each (a quaternion)."""
    w, x, y, z = (normal_B4 / normal_B4.norm(dim=1, keepdim=True)).unbind(1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], 1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], 1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], 1),
    ]
    return torch.stack(rows, 1)
