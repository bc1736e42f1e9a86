"""Predictions of the generation pass along the denoising trajectory (paper Fig. 7; METHOD 5).

Samples are tokenized, their latents noised to several levels t, and the predictions decoded:
D(z_hat(z_t)), beside D(z0), the direct decoding of the clean latent. Each is compared with the
input by the domain's own metrics (images: PSNR in dB, L1), averaged over samples.
Shapes: B samples, T levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unite.sampling.protocol import Condition, check_levels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TrajectoryConfig:
    """Settings of the trajectory: noise levels, class, seed."""

    levels: tuple[float, ...] = (0.25, 0.5, 0.75)
    """Noise levels t (1 = clean data). The paper shows three and does not give them."""
    condition: Condition = "label"
    """Class of the generation pass."""
    seed: int = 0
    """Address of the noise."""

    def __post_init__(self) -> None:
        check_levels(self.levels)


def level_sums(qualities: Sequence[Mapping[str, Tensor]]) -> dict[str, np.ndarray]:
    """Sums over a batch's samples (float64, (T + 1,) of each metric), and their number.

    `qualities`: metrics by name, each (B,), at every level and last of D(z0).
    """
    sums = {
        name: np.array([float(quality[name].double().sum()) for quality in qualities])
        for name in qualities[0]
    }
    return {**sums, "num_samples": np.array(len(next(iter(qualities[0].values()))))}


def level_means(sums: Mapping[str, np.ndarray]) -> tuple[int, dict[str, list[float]]]:
    """Number of samples, and the means of each metric, of all `level_sums`, added up.

    ValueError when there are none.
    """
    if not sums:
        raise ValueError("trajectory: no samples were added; give at least one batch")
    num = int(sums["num_samples"])
    means = {name: total / num for name, total in sums.items() if name != "num_samples"}
    return num, {name: mean.tolist() for name, mean in means.items()}
