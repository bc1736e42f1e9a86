"""Random rotations and translations in training, addressed by each sample's own key."""

from __future__ import annotations

from torch import Tensor

from unite.domains.atoms.geometry import cell_matrix, rotations
from unite.flow.random import Purpose, normal, stream_keys, uniform


def rotate(pos_BN3: Tensor, keys_B: Tensor) -> Tensor:
    """Each sample turned by a uniformly random proper rotation of its own; none is mirrored."""
    return pos_BN3 @ rotations(normal(keys_B, (4,))).transpose(1, 2).to(pos_BN3.dtype)


def translate(frac_BN3: Tensor, keys_B: Tensor, mask_BN: Tensor) -> Tensor:
    """Each sample's atoms moved by a vector uniform in its cell, and wrapped into [0, 1)."""
    keys_B = stream_keys(int(Purpose.AUGMENT), keys_B)  # words of their own beside the rotation's
    moved_BN3 = frac_BN3 + uniform(keys_B, (1, 3)).to(frac_BN3.dtype)
    return (moved_BN3 - moved_BN3.floor()) * mask_BN[..., None]


def cartesian(frac_BN3: Tensor, lengths_B3: Tensor, angles_B3: Tensor) -> Tensor:
    """Cartesian coordinates in A of fractional ones, in the cell's standard orientation."""
    return frac_BN3 @ cell_matrix(lengths_B3, angles_B3)
