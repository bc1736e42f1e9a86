"""Error of a reconstructed image: PSNR and L1, for a range of 1 and in float64.

Images are (B, C, H, W): uint8, or float in [0, 1], which is cut to that range. Shapes: B images,
C channels, H height, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor

SMALLEST_ERROR = 1e-10
"""Mean squared error that PSNR is cut off at (100 dB)."""


def psnr(reconstruction_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """Peak signal-to-noise ratio (B,) in dB, float64; at most 100."""
    a_BCHW, b_BCHW = unit_pair(reconstruction_BCHW, image_BCHW)
    squared_B = (a_BCHW - b_BCHW).square().flatten(1).mean(dim=1)
    return -10 * squared_B.clamp_min(SMALLEST_ERROR).log10()


def l1(reconstruction_BCHW: Tensor, image_BCHW: Tensor) -> Tensor:
    """Mean absolute error (B,), float64."""
    a_BCHW, b_BCHW = unit_pair(reconstruction_BCHW, image_BCHW)
    return (a_BCHW - b_BCHW).abs().flatten(1).mean(dim=1)


def unit_pair(a_BCHW: Tensor, b_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Both as float64 in [0, 1], on the device of the second; ValueError when shapes differ."""
    if a_BCHW.shape != b_BCHW.shape or a_BCHW.ndim != 4:
        raise ValueError(
            f"reconstructions {tuple(a_BCHW.shape)} and images {tuple(b_BCHW.shape)} must have one "
            "shape (B, C, H, W)"
        )
    return _unit(a_BCHW).to(b_BCHW.device), _unit(b_BCHW)


def _unit(images_BCHW: Tensor) -> Tensor:
    if images_BCHW.dtype == torch.uint8:
        return images_BCHW.double() / 255
    return images_BCHW.double().clamp(0, 1)
