"""The straight path between noise (t = 0) and data (t = 1), and the error of a prediction on it.

METHOD 3, steps 5-6. Latents are (B, ...) of any shape, as a rule (B, K, D): K registers of D
channels.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor


def interpolate(z: Tensor, eps: Tensor, t_B: Tensor) -> Tensor:
    """z_t = t z + (1 - t) eps, with one t per sample."""
    t = per_sample(t_B, z)
    return t * z + (1.0 - t) * eps


def velocity(z_hat: Tensor, z: Tensor, t_B: Tensor, clamp: float) -> Tensor:
    """dz/dt = (z_hat - z) / max(1 - t, clamp): straight towards the predicted data."""
    return (z_hat - z) / per_sample((1.0 - t_B).clamp_min(clamp), z)


def flow_error(
    z_hat: Tensor,
    z: Tensor,
    t_B: Tensor,
    space: Literal["velocity", "data"],
    clamp: float,
    *,
    mask_BK: Tensor | None = None,
) -> Tensor:
    """Mean squared error of each sample: (B,), in float32.

    `velocity` divides the error by max(1 - t, clamp) before squaring, as the released code does;
    `data` is the paper's plain squared error. With a mask only valid registers enter the mean.
    """
    error = z.float() - z_hat.float()
    if space == "velocity":
        error = error / per_sample((1.0 - t_B).clamp_min(clamp), error)
    elif space != "data":
        raise ValueError(f"flow.loss_space must be 'velocity' or 'data', not {space!r}")
    return per_sample_mean(error.square(), mask_BK)


def per_sample(value_B: Tensor, like: Tensor) -> Tensor:
    """A value per sample, shaped, placed and typed to broadcast over the (B, ...) tensor `like`."""
    there = value_B.to(like, non_blocking=value_B.device.type == "cpu")
    return there.reshape(-1, *(1,) * (like.dim() - 1))


def per_sample_mean(value: Tensor, mask_BK: Tensor | None = None) -> Tensor:
    """Mean over everything but the batch, or over the registers that the mask marks valid."""
    if mask_BK is None:
        return value.flatten(1).mean(dim=1)
    value_BK = value.flatten(2).mean(dim=2)
    return torch.where(mask_BK, value_BK, 0.0).sum(dim=1) / mask_BK.sum(dim=1)
