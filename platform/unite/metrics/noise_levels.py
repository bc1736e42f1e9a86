"""Predictions of the generation pass along the denoising trajectory (paper Fig. 7; METHOD 5).

Samples are tokenized, their latents noised to several levels t, and the predictions decoded:
D(z_hat(z_t)), beside D(z0), the direct decoding of the clean latent. Each is compared with the
input by the domain's own metrics (images: PSNR in dB, L1), averaged over samples.
Shapes: B samples, T levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from torch import Tensor

from unite.sampling.passes import Condition, check_levels


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

    def update(self, qualities: Sequence[Mapping[str, Tensor]]) -> None:
        """Count a batch in: its metrics by name, each (B,), at every level and last of D(z0)."""
        for name in qualities[0]:
            totals = np.array([float(quality[name].double().sum()) for quality in qualities])
            self.sums[name] = self.sums.get(name, 0.0) + totals
        self.num_samples += len(next(iter(qualities[0].values())))

    def merge(self, other: TrajectorySums) -> None:
        """Add another worker's sums. ValueError when it measured something else."""
        if other.config != self.config:
            raise ValueError(f"config: {other.config} cannot be added to {self.config}")
        for name, totals in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + totals
        self.num_samples += other.num_samples

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Everything but the config, as arrays."""
        return {**self.sums, "num_samples": np.array(self.num_samples)}

    def from_arrays(self, arrays: Mapping[str, np.ndarray]) -> TrajectorySums:
        """Sums of what `to_arrays` gave."""
        sums = TrajectorySums(self.config)
        sums.num_samples = int(arrays["num_samples"])
        sums.sums = {k: np.array(v) for k, v in arrays.items() if k != "num_samples"}
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
