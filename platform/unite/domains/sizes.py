"""Numbers of registers of samples of many sizes: their histogram, draws from it, and masks.

A model keeps the histogram of its training set (`Domain.statistics`) and draws the sizes of new
samples from it, each addressed by its own key. Shapes: B samples, M = most + 1 sizes from 0.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from unite.flow.random import uniform


def size_histogram(sizes: Iterable[np.ndarray], most: int) -> Tensor:
    """Number of samples of each size 0..`most`: int64 (M,). ValueError for a larger size."""
    histogram = np.zeros(most + 1, np.int64)
    for sizes_B in sizes:
        if len(sizes_B) and sizes_B.max() > most:
            raise ValueError(f"a sample has size {sizes_B.max()}, above the most, {most}")
        histogram += np.bincount(sizes_B, minlength=most + 1)
    return torch.from_numpy(histogram)


def draw_sizes(keys_B: Tensor, histogram_M: Tensor) -> Tensor:
    """A size for each key, with the histogram's frequencies: int64 (B,)."""
    shares_M = histogram_M.double().cumsum(0) / histogram_M.sum()
    return torch.searchsorted(shares_M, uniform(keys_B).to(shares_M), right=True)


def mask_of(sizes_B: Tensor, most: int) -> Tensor:
    """True at the first `sizes_B` of `most` places: bool (B, most)."""
    return torch.arange(most, device=sizes_B.device) < sizes_B[:, None]
