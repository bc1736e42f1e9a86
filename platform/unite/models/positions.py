"""Fixed position tables: 1-D and 2-D sin-cos tables and the 1-D rotary table.

Tables are computed on the CPU in float64 and rounded once, so that every device holds the same
bits. Sin-cos tables then go to the default device, as factory functions do.
Shapes: S sequence, K positions, H width, E head width.
"""

from __future__ import annotations

import torch
from torch import Tensor

THETA = 10_000.0
"""Longest wavelength of the sin-cos tables and of the rotary embedding (METHOD 1)."""


def sincos_1d(num_positions: int, width: int) -> Tensor:
    """Table (num_positions, width) of positions 0..: all sines, then all cosines.

    Raises ValueError when `width` is odd.
    """
    return _sincos(num_positions, width).to(torch.get_default_device())


def sincos_2d(side: int, width: int) -> Tensor:
    """Table (side * side, width) of a square grid in row-major order: column half, then row half.

    Raises ValueError when `width` is no multiple of 4.
    """
    if width % 4:
        raise ValueError(f"a 2-D sin-cos position table needs a width divisible by 4, not {width}")
    table = _sincos(side, width // 2)
    columns, rows = table.repeat(side, 1), table.repeat_interleave(side, dim=0)
    return torch.cat([columns, rows], dim=1).to(torch.get_default_device())


def rotary_table(num_positions: int, head_width: int, num_identity: int = 0) -> Tensor:
    """Cosines and sines (2, num_identity + num_positions, E / 2) of the 1-D rotary embedding.

    The first `num_identity` rows rotate by nothing (the in-context class tokens); row
    `num_identity + p` belongs to position p. Always on the CPU, also below torch.device("meta"),
    because no checkpoint holds it.
    """
    angles = _angles(num_positions, head_width)
    angles = torch.cat([angles.new_zeros(num_identity, head_width // 2), angles])
    return torch.stack([angles.cos(), angles.sin()]).float()


def _sincos(num_positions: int, width: int) -> Tensor:
    angles = _angles(num_positions, width)
    return torch.cat([angles.sin(), angles.cos()], dim=1).float()


def _angles(num_positions: int, width: int) -> Tensor:
    """Position times frequency, (num_positions, width / 2), float64 on the CPU."""
    if width % 2:
        raise ValueError(f"positions need an even width, not {width}")
    exponents = torch.arange(0, width, 2, dtype=torch.float64, device="cpu") / width
    positions = torch.arange(num_positions, dtype=torch.float64, device="cpu")
    return positions[:, None] * THETA**-exponents


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate the interleaved pairs of x (..., S, E) by `table` (2, S, E / 2)."""
    cos, sin = table
    first, second = x.unflatten(-1, (-1, 2)).unbind(-1)
    pairs = (first * cos - second * sin, second * cos + first * sin)
    return torch.stack(pairs, dim=-1).flatten(-2)
