"""Precision and batch size of a model that is not trained, by the device that it runs on."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import torch

from unite.config.schema import Precision
from unite.models.kernels.choose import BF16_CAPABILITY

SMALLEST_BATCH, LARGEST_BATCH = 32, 512
BATCH_BYTES = 144 * 2**20
"""Memory of a card for each image of a batch: guided, a row of UNITE-XL and its unconditional twin
take 50 MiB of activations, Inception 25."""


def choose_precision(asked: Precision | None, device: torch.device) -> Precision:
    """The precision asked for; None = bfloat16 on a GPU that has it, else float32.

    ValueError for one that the device lacks.
    """
    if asked is None:
        return "bfloat16" if device.type == "cuda" and _has_bfloat16(device) else "float32"
    require_precision(asked, device)
    return asked


def require_precision(precision: Precision, device: torch.device) -> None:
    """ValueError for a precision that a device lacks."""
    if precision == "bfloat16" and device.type == "cuda" and not _has_bfloat16(device):
        raise ValueError(
            f"--precision bfloat16: {torch.cuda.get_device_name(device)} has no matrix products in "
            "bfloat16, which came with compute capability 8.0: give --precision float32"
        )


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Context in which a model runs in a precision; its weights stay float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def card_batch(memory: int) -> int:
    """Images that a card of so many bytes computes at once: a power of two."""
    batch = SMALLEST_BATCH
    while 2 * batch * BATCH_BYTES <= memory and batch < LARGEST_BATCH:
        batch *= 2
    return batch


def device_memory(device: torch.device) -> int:
    """Bytes of a CUDA device."""
    return torch.cuda.get_device_properties(device).total_memory


def _has_bfloat16(device: torch.device) -> bool:
    return torch.cuda.get_device_capability(device) >= BF16_CAPABILITY
