"""Sufficient statistics of features: n, sum of x and sum of x x^T, in float64.

Workers reduce each chunk of samples to `Moments`; the driver adds the chunks in the order of their
index, so that mean and covariance are bit-identical for any number of workers. Features never
travel. Shapes: B samples, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unite.lazy import torch
from unite.metrics.accumulator import Arrays
from unite.metrics.errors import MetricError

if TYPE_CHECKING:
    from torch import Tensor


def check_features(features_BF: Tensor, num_features: int | None = None) -> Tensor:
    """Features (B, F) as float64 on their device.

    MetricError for another shape than (B, num_features), or values that are not finite.
    """
    if features_BF.ndim != 2 or num_features not in (None, features_BF.shape[-1]):
        wanted = f"(samples, {'features' if num_features is None else num_features})"
        raise MetricError(
            f"features have shape {tuple(features_BF.shape)}, not {wanted}: is this the extractor "
            "that the statistics were made with?"
        )
    finite_B = torch.isfinite(features_BF).all(dim=1)
    if not finite_B.all():
        first = int((~finite_B).nonzero()[0])
        raise MetricError(
            f"features of {int((~finite_B).sum())} of {len(features_BF)} samples are NaN or "
            f"infinite, first in row {first}: look at those images"
        )
    return features_BF.double()


@dataclass
class Moments:
    """Running sums over samples. `update` and `merge` change it in place."""

    num: int
    sum_F: Tensor
    """Sum of the features, float64."""
    outer_FF: Tensor
    """Sum of the outer products x x^T, float64."""

    @classmethod
    def zeros(cls, num_features: int, device: torch.device | str = "cpu") -> Moments:
        """Empty moments; the sums live on `device`."""
        new = {"dtype": torch.float64, "device": device}
        return cls(0, torch.zeros(num_features, **new), torch.zeros((num_features,) * 2, **new))

    @classmethod
    def of(cls, features_BF: Tensor) -> Moments:
        """Moments of one set of features."""
        moments = cls.zeros(features_BF.shape[-1], features_BF.device)
        moments.update(features_BF)
        return moments

    @property
    def num_features(self) -> int:
        """Number of features F."""
        return len(self.sum_F)

    def update(self, features_BF: Tensor) -> None:
        """Count samples in; MetricError for a wrong width or values that are not finite."""
        x_BF = check_features(features_BF, self.num_features).to(self.sum_F.device)
        self.num += len(x_BF)
        self.sum_F += x_BF.sum(dim=0)
        self.outer_FF.addmm_(x_BF.T, x_BF)

    def merge(self, arrays: Arrays) -> None:
        """Add what `to_arrays` gave of others; MetricError when the widths differ."""
        width = arrays["sum"].size
        if width != self.num_features:
            raise MetricError(
                f"moments of {width} and {self.num_features} features cannot be added: they come "
                "from different extractors"
            )
        self.num += int(arrays["num"])
        self.sum_F += torch.from_numpy(arrays["sum"]).to(self.sum_F.device)
        self.outer_FF += torch.from_numpy(arrays["outer"]).to(self.outer_FF.device)

    def mean(self) -> np.ndarray:
        """Mean (F,); MetricError without samples."""
        self._require(1)
        return (self.sum_F / self.num).cpu().numpy()

    def covariance(self) -> np.ndarray:
        """Unbiased covariance (F, F), divisor n - 1 as in np.cov; MetricError under 2 samples."""
        self._require(2)
        centred_FF = self.outer_FF - torch.outer(self.sum_F, self.sum_F) / self.num
        # Rounding leaves products in two orders; the eigen-solver wants exact symmetry.
        covariance_FF = (centred_FF + centred_FF.T) / (2 * (self.num - 1))
        return covariance_FF.cpu().numpy()

    def _require(self, least: int) -> None:
        if self.num < least:
            raise MetricError(f"{self.num} samples were counted; at least {least} are needed")

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays for an npz file."""
        return {
            "num": np.array(self.num, np.int64),
            "sum": self.sum_F.cpu().numpy(),
            "outer": self.outer_FF.cpu().numpy(),
        }
