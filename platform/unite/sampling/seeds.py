"""Seeds, one per sample: the noise, and thereby the sample, is a function of its seed alone."""

from __future__ import annotations

import torch
from torch import Tensor

from unite.flow.random import Purpose, normal, stream_keys, uniform

NOISE_ADDRESS = 0
"""Start of the addresses of sampling noise; only the sample's own seed is added."""


def sample_noise(seeds_B: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The N(0, I) start of each sample from its seed (int64): float32 (B, *shape)."""
    return normal(stream_keys(NOISE_ADDRESS, int(Purpose.SAMPLE), seeds_B), shape)


def sample_seeds(seed: int, indices_B: Tensor) -> Tensor:
    """Seeds of the samples `indices_B` of the set named by `seed`; sets share no seeds."""
    return stream_keys(seed, int(Purpose.SAMPLE), indices_B.long())


def fresh_seeds(num: int) -> Tensor:
    """Random seeds from torch's global generator."""
    return torch.randint(2**63 - 1, (num,))


def balanced_labels(num: int, num_classes: int) -> Tensor:
    """Classes 0, 1, 2, ... in turn, equally many of each; ValueError when `num` does not divide."""
    if num_classes < 1 or num % num_classes:
        raise ValueError(
            f"{num} samples cannot be spread evenly over {num_classes} classes: use a multiple of "
            f"{num_classes}, or draw the classes at random"
        )
    return torch.arange(num) % num_classes


def uniform_labels(num: int, num_classes: int, seed: int) -> Tensor:
    """Random classes, each addressed by (seed, index), so any range of them can be made alone."""
    keys = stream_keys(seed, int(Purpose.SAMPLE_LABEL), torch.arange(num))
    return (uniform(keys).double() * num_classes).long()
