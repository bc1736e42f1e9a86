"""Atoms to tokens and tokens to atoms: one token for each atom, in the order of the file.

Fractional coordinates are angles: as plain numbers 0.99 and 0.01 are far apart, as points on
circles (`frac_code`) they are near, for the embedding and for the loss alike. Coordinates are
float32 below autocast too: bfloat16 would round 5 A by up to 0.011 A.

Shapes: B batch, N atoms, K = N registers, H width, E element types.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite.config.domains import AtomsConfig, CrystalsConfig
from unite.domains.atoms.elements import MAX_ELEMENTS
from unite.domains.atoms.geometry import center
from unite.models.blocks import float32_island, normal_values
from unite.models.positions import sincos_1d

POSITION_UNIT = 1.4
"""Unit of the network's positions in A: their standard deviation per axis in QM9."""
LENGTH_UNIT = 4.0
"""Unit of the network's cell lengths / N^(1/3) in A: about their mean in MP20."""
RIGHT_ANGLE = 90.0
"""Angle in degrees that the network's angles are counted from, in rad."""


class CoordinateMLP(nn.Module):
    """Linear without bias, SiLU, Linear: coordinates (..., 3 or 6) to width H."""

    def __init__(self, width: int, inputs: int = 3) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., H)."""
        with float32_island(x):
            return self.out(F.silu(self.hidden(x.to(self.hidden.weight.dtype))))


class AtomEmbedder(nn.Module):
    """Type, coordinates, index and role of each atom, summed; of a crystal also its cell.

    The index table is the one that registers start from, so that attention can tell which register
    belongs to which atom.
    """

    index: Tensor

    def __init__(self, config: AtomsConfig, width: int) -> None:
        super().__init__()
        self.types = nn.Embedding.from_pretrained(
            normal_values(MAX_ELEMENTS, width, std=1.0), freeze=False
        )
        self.positions = CoordinateMLP(width)
        self.circle = on_circle(config)
        self.frac = CoordinateMLP(width, 6 if self.circle else 3) if config.periodic else None
        self.cell = nn.Linear(6, width) if config.periodic else None
        self.role = nn.Parameter(normal_values(width))
        self.register_buffer("index", sincos_1d(config.max_atoms, width))

    def forward(self, sample: dict[str, Tensor]) -> Tensor:
        """A sample to tokens (B, N, H)."""
        x_BNH = self.atoms(sample)
        if self.frac is not None and self.cell is not None:
            frac_BNH, cell_B1H = self.places(sample)
            x_BNH = x_BNH + frac_BNH + cell_B1H
        return x_BNH

    def atoms(self, sample: dict[str, Tensor]) -> Tensor:
        """Type, position, index and role of each atom, (B, N, H)."""
        pos_BN3 = sample["pos"] / POSITION_UNIT
        x_BNH = self.types(sample["types"]) + self.positions(pos_BN3) + self.role
        return x_BNH + self.index[: pos_BN3.shape[1]]

    def places(self, sample: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Fractional coordinates (B, N, H) and the cell (B, 1, H) of crystals."""
        assert self.frac is not None and self.cell is not None
        cell_B6 = scaled_cell(sample["lengths"], sample["angles"], sample["mask"].sum(1))
        frac = to_circle(sample["frac"]) if self.circle else sample["frac"]
        with float32_island(cell_B6):
            cell_BH = self.cell(cell_B6.to(self.cell.weight.dtype))
        return self.frac(frac), cell_BH[:, None]


class JointEmbedder(AtomEmbedder):
    """The embedder of crystals for molecules too: tokens of these have no cell and no place in
    one, and are those that an embedder of molecules with the same weights makes."""

    def forward(self, sample: dict[str, Tensor]) -> Tensor:
        """A sample with `crystal` (B,) to tokens (B, N, H)."""
        frac_BNH, cell_B1H = self.places(sample)
        in_cell_BNH = frac_BNH + cell_B1H
        return self.atoms(sample) + in_cell_BNH * sample["crystal"][:, None, None]


class AtomHead(nn.Module):
    """Types, and positions or fractional coordinates and the cell, from the decoder's tokens."""

    allowed: Tensor

    def __init__(self, config: AtomsConfig, width: int) -> None:
        super().__init__()
        self.types = nn.Linear(width, MAX_ELEMENTS)
        self.circle = on_circle(config)
        self.coordinates = nn.Linear(width, 6 if self.circle else 3)
        self.cell = nn.Linear(width, 6) if config.periodic else None
        allowed = torch.zeros(MAX_ELEMENTS, dtype=torch.bool)
        allowed[list(config.elements) or slice(1, None)] = True
        self.register_buffer("allowed", allowed)

    def forward(self, x_BKH: Tensor, mask_BK: Tensor | None = None) -> dict[str, Any]:
        """Decoded atoms: `logits` (B, K, E), `mask` (B, K), and `pos` in A or `frac` and the cell.

        On circles also `circle` (B, K, 6), the points of which `frac` is the angle. Logits of
        elements that the model does not know are the lowest number.
        """
        if mask_BK is None:
            mask_BK = torch.ones(x_BKH.shape[:2], dtype=torch.bool, device=x_BKH.device)
        logits = self.types(x_BKH)
        lowest = torch.finfo(logits.dtype).min
        atoms = {"logits": logits.masked_fill(~self.allowed, lowest), "mask": mask_BK}
        coordinates = self.coordinates(x_BKH)
        if self.cell is None:
            return {**atoms, "pos": POSITION_UNIT * center(coordinates, mask_BK)}
        weights_BK1 = mask_BK[..., None].to(x_BKH.dtype)
        pooled_BH = (x_BKH * weights_BK1).sum(1) / weights_BK1.sum(1)
        lengths_B3, angles_B3 = unscaled_cell(self.cell(pooled_BH), mask_BK.sum(1))
        atoms |= {"lengths": lengths_B3, "angles": angles_B3}
        if self.circle:
            return {**atoms, "circle": coordinates, "frac": from_circle(coordinates)}
        return {**atoms, "frac": coordinates}


class JointHead(AtomHead):
    """The head of crystals, with positions as of molecules and the kind beside it."""

    def __init__(self, config: CrystalsConfig, width: int) -> None:
        super().__init__(config, width)
        self.positions = nn.Linear(width, 3)
        self.part = nn.Linear(width, 1)

    def forward(self, x_BKH: Tensor, mask_BK: Tensor | None = None) -> dict[str, Any]:
        """Atoms as `AtomHead` decodes crystals, with `pos` in A and `part` (B,), the logit of a
        crystal."""
        atoms = super().forward(x_BKH, mask_BK)
        used_BK: Tensor = atoms["mask"]
        weights_BK1 = used_BK[..., None].to(x_BKH.dtype)
        pooled_BH = (x_BKH * weights_BK1).sum(1) / weights_BK1.sum(1)
        pos_BK3 = POSITION_UNIT * center(self.positions(x_BKH), used_BK)
        return {**atoms, "pos": pos_BK3, "part": self.part(pooled_BH)[:, 0]}


def on_circle(config: AtomsConfig) -> bool:
    """True if fractional coordinates are points on circles in the network."""
    return isinstance(config, CrystalsConfig) and config.frac_code == "circle"


def to_circle(frac: Tensor) -> Tensor:
    """Cosines and sines (..., 6) of fractional coordinates (..., 3) as angles."""
    angle = 2 * math.pi * frac
    return torch.cat([angle.cos(), angle.sin()], -1)


def from_circle(points: Tensor) -> Tensor:
    """Fractional coordinates (..., 3) in [-0.5, 0.5], float32, of points (..., 6) of any length."""
    cosines, sines = points.float().chunk(2, -1)
    return torch.atan2(sines, cosines) / (2 * math.pi)


def scaled_cell(lengths_B3: Tensor, angles_B3: Tensor, num_atoms_B: Tensor) -> Tensor:
    """Cells as the network sees them, (B, 6): lengths / N^(1/3) in units, angles from 90 in rad."""
    root_B1 = num_atoms_B[:, None].to(lengths_B3.dtype) ** (1 / 3)
    scaled_B3 = lengths_B3 / (root_B1 * LENGTH_UNIT)
    return torch.cat([scaled_B3, torch.deg2rad(angles_B3 - RIGHT_ANGLE)], dim=1)


def unscaled_cell(scaled_B6: Tensor, num_atoms_B: Tensor) -> tuple[Tensor, Tensor]:
    """Lengths in A and angles in degrees (B, 3) each: the inverse of `scaled_cell`."""
    root_B1 = num_atoms_B[:, None].to(scaled_B6.dtype) ** (1 / 3)
    lengths_B3, angles_B3 = scaled_B6.split(3, dim=1)
    return lengths_B3 * (root_B1 * LENGTH_UNIT), torch.rad2deg(angles_B3) + RIGHT_ANGLE
