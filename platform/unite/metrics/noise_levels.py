"""Predictions of the generation pass along the denoising trajectory (paper Fig. 7; METHOD 5).

Samples are tokenized, their latents noised to several levels t, and the predictions decoded:
D(z_hat(z_t)), beside D(z0), the direct decoding of the clean latent. Each is compared with the
input by the domain's own metrics (images: PSNR in dB, L1), averaged over samples.
Shapes: B samples, T levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from unite.metrics.passes import (
    Condition,
    check_levels,
    condition_labels,
    denoise_rows,
    tokenize_rows,
)
from unite.sampling.grid import image_grid

if TYPE_CHECKING:
    from unite.domains.base import Domain
    from unite.models.unite import UNITE


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


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Mean quality of the decoded predictions."""

    config: TrajectoryConfig
    num_samples: int
    metrics: dict[str, np.ndarray]
    """Metric name -> values (T + 1,): one for each level, the last for D(z0)."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        metrics = {name: values.tolist() for name, values in self.metrics.items()}
        return {"config": asdict(self.config), "num_samples": self.num_samples, "metrics": metrics}


class TrajectorySums:
    """Sums of the metrics over the samples seen so far (float64). Mergeable."""

    def __init__(self, config: TrajectoryConfig) -> None:
        self.config = config
        self.num_samples = 0
        self.sums: dict[str, np.ndarray] = {}

    @torch.inference_mode()
    def add(
        self, model: UNITE, sample: Any, rows_B: Tensor, labels_B: Tensor | None = None
    ) -> list[Any]:
        """Add a batch; returns its reconstructions, one per level and last D(z0).

        `rows_B`: int64 row numbers in the data set, on the model's device. ValueError when the
        generation pass is to see labels and none are given.
        """
        reconstructions = decode_trajectory(self.config, model, sample, rows_B, labels_B)
        # The model's type promises only the part of the domain that the model itself needs.
        domain = cast("Domain", model.domain)
        qualities = [domain.reconstruction_metrics(each, sample) for each in reconstructions]
        for name in qualities[0]:
            totals = np.array([float(quality[name].double().sum()) for quality in qualities])
            self.sums[name] = self.sums.get(name, 0.0) + totals
        self.num_samples += rows_B.shape[0]
        return reconstructions

    def merge(self, other: TrajectorySums) -> None:
        """Add another worker's sums. ValueError when it measured something else."""
        if other.config != self.config:
            raise ValueError(f"config: {other.config} cannot be added to {self.config}")
        for name, totals in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + totals
        self.num_samples += other.num_samples

    def state(self) -> dict[str, np.ndarray]:
        """Everything but the config, as arrays."""
        return {**self.sums, "num_samples": np.array(self.num_samples)}

    @classmethod
    def from_state(
        cls, config: TrajectoryConfig, state: Mapping[str, np.ndarray]
    ) -> TrajectorySums:
        """Inverse of `state`."""
        sums = cls(config)
        sums.num_samples = int(state["num_samples"])
        sums.sums = {k: np.array(v) for k, v in state.items() if k != "num_samples"}
        return sums

    def result(self) -> Trajectory:
        """The means. ValueError when nothing was added."""
        if not self.num_samples:
            raise ValueError("trajectory: no samples were added; give at least one batch")
        return Trajectory(
            config=self.config,
            num_samples=self.num_samples,
            metrics={name: totals / self.num_samples for name, totals in self.sums.items()},
        )


@torch.inference_mode()
def decode_trajectory(
    config: TrajectoryConfig,
    model: UNITE,
    sample: Any,
    rows_B: Tensor,
    labels_B: Tensor | None = None,
) -> list[Any]:
    """The domain's reconstructions D(z_hat(z_t)) in the order of `config.levels`, then D(z0)."""
    labels_B = condition_labels(config.condition, labels_B)
    mask_BK = model.domain.register_mask(sample)
    z0_BKD = tokenize_rows(model, sample, rows_B, seed=config.seed)
    latents = [
        denoise_rows(model, z0_BKD, t, rows_B, seed=config.seed, labels_B=labels_B, mask_BK=mask_BK)
        for t in config.levels
    ]
    return [model.decode(latent_BKD, mask_BK) for latent_BKD in [*latents, z0_BKD]]


def trajectory_grid(domain: Domain, sample: Any, reconstructions: Sequence[Any]) -> np.ndarray:
    """Picture of a batch, uint8 (H, W, C): inputs on top, below them one row per reconstruction."""
    pictures = [domain.render(each) for each in [sample, *reconstructions]]
    return image_grid(torch.cat(pictures).cpu().numpy(), columns=pictures[0].shape[0])
