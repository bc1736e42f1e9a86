"""Fidelity of a set of images: counts of the workers per chunk, and their evaluation.

A `FidelityPlan` fixes, from the number of samples alone, which samples form which split of the
Inception Score and which are kept as features for KID and the manifold metrics. A worker fills
`FidelityStatistics` for its chunk of sample indices; the driver adds the chunks in the order of
their index and compares them with the real side. Nothing depends on who counted a chunk.
Shapes: B samples of a batch, F features, C classes, M kept samples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from unite.lazy import torch
from unite.metrics.accumulator import Arrays
from unite.metrics.errors import MetricError
from unite.metrics.frechet import Gaussian
from unite.metrics.inception_score import ScoreSums
from unite.metrics.moments import Moments
from unite.metrics.neighbours import KID_SUBSET_SIZE, kernel_distance, manifold_metrics

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FidelityPlan:
    """Plan of the counting, made before the first sample is drawn."""

    total: int
    """Number of samples; their indices are 0..total-1."""
    num_features: int
    """Number of features F of the extractor."""
    num_classes: int = 0
    """C, width of the extractor's logits; 0 = it has none, and there is no Inception Score."""
    keep: int = 10_000
    """Largest number of samples whose features are kept for KID and the manifold metrics."""
    splits: int = 10
    """Number of splits of the Inception Score."""
    seed: int = 2020
    """Seed of the permutation for splits and kept samples: torch-fidelity's, for equal splits."""

    def __post_init__(self) -> None:
        if self.total < 1 or self.splits < 1:
            raise MetricError(f"total, splits: {self.total}, {self.splits}; both must be positive")

    @cached_property
    def position(self) -> np.ndarray:
        """Place (total,) of each sample index in the permutation."""
        permutation = np.random.RandomState(self.seed).permutation(self.total)
        position = np.empty_like(permutation)
        position[permutation] = np.arange(self.total)
        return position

    @cached_property
    def split(self) -> np.ndarray:
        """Split number (total,) of each sample index: places i N // S to (i + 1) N // S."""
        ends = np.arange(1, self.splits + 1) * self.total // self.splits
        return np.searchsorted(ends, self.position, side="right")

    def kept(self, indices: np.ndarray) -> np.ndarray:
        """Mask of the samples whose features are kept."""
        return self.position[indices] < self.keep


@dataclass
class FidelityStatistics:
    """Sums over the samples of one or more chunks. `update` and `merge` change it in place."""

    plan: FidelityPlan
    moments: Moments
    scores: ScoreSums | None
    indices: list[np.ndarray] = field(default_factory=list)
    """Sample indices counted so far, to prove that each was counted once."""
    kept_indices: list[np.ndarray] = field(default_factory=list)
    kept_features: list[np.ndarray] = field(default_factory=list)
    """Features (M, F) of the kept samples, float32."""

    @classmethod
    def zeros(cls, plan: FidelityPlan, device: torch.device | str = "cpu") -> FidelityStatistics:
        """Empty statistics; the sums live on `device`."""
        scores = ScoreSums.zeros(plan.splits, plan.num_classes, device)
        moments = Moments.zeros(plan.num_features, device)
        return cls(plan, moments, scores if plan.num_classes else None)

    def update(
        self, indices_B: np.ndarray, features_BF: Tensor, logits_BC: Tensor | None = None
    ) -> None:
        """Count samples in, by index; MetricError for indices, shapes or values that are wrong."""
        indices = np.asarray(indices_B, np.int64)
        if len(indices) != len(features_BF):
            raise MetricError(f"{len(indices)} indices for {len(features_BF)} rows of features")
        self._check(indices)
        if (logits_BC is None) != (self.scores is None):
            raise MetricError("logits must be given exactly when the plan has num_classes")
        self.moments.update(features_BF)
        if self.scores is not None and logits_BC is not None:
            self.scores.update(torch.from_numpy(self.plan.split[indices]), logits_BC)
        kept = self.plan.kept(indices)
        self.indices.append(indices)
        self.kept_indices.append(indices[kept])
        rows = torch.from_numpy(kept).to(features_BF.device)
        self.kept_features.append(features_BF[rows].float().cpu().numpy())

    def merge(self, arrays: Arrays) -> None:
        """Count in another chunk of the same plan; MetricError for one of another."""
        kept = _part(arrays, "kept")
        self._check(arrays["indices"])
        self.moments.merge(_part(arrays, "moments"))
        if self.scores is not None:
            self.scores.merge(_part(arrays, "scores"))
        self.indices.append(arrays["indices"])
        self.kept_indices.append(kept["indices"])
        self.kept_features.append(kept["features"])

    def check_complete(self, left_out: int = 0) -> None:
        """MetricError unless each index of the plan was counted exactly once.

        `left_out`: indices that are known to be missing, such as rows that cannot be decoded.
        """
        counts = np.bincount(_joined(self.indices, np.int64), minlength=self.plan.total)
        missing, repeated = np.flatnonzero(counts == 0), np.flatnonzero(counts > 1)
        if len(missing) != left_out or len(repeated):
            raise MetricError(
                f"of {self.plan.total} samples, {len(missing)} were not counted "
                f"(first: {missing[:3].tolist()}) and {len(repeated)} more than once "
                f"(first: {repeated[:3].tolist()}): chunks are missing or overlap"
            )

    def result(self) -> Gaussian:
        """Mean and covariance of the features; MetricError under 2 samples."""
        return Gaussian(self.moments.mean(), self.moments.covariance())

    def kept(self) -> tuple[np.ndarray, np.ndarray]:
        """Indices (M,) and features (M, F) of the kept samples, in the order of their index."""
        indices = _joined(self.kept_indices, np.int64)
        order = np.argsort(indices)
        features_MF = _joined(self.kept_features, np.float32, self.plan.num_features)
        return indices[order], features_MF[order]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays for an npz file, without the plan."""
        indices, features_MF = self.kept()
        parts = {"moments": self.moments.to_arrays()}
        if self.scores is not None:
            parts["scores"] = self.scores.to_arrays()
        flat = {f"{part}/{name}": a for part, arrays in parts.items() for name, a in arrays.items()}
        flat["indices"] = _joined(self.indices, np.int64)
        return flat | {"kept/indices": indices, "kept/features": features_MF}

    def _check(self, indices: np.ndarray) -> None:
        """MetricError for an index that the plan does not have."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < self.plan.total:
            raise MetricError(
                f"sample indices {indices.min()}..{indices.max()} lie outside of "
                f"0..{self.plan.total - 1}"
            )


def fidelity_metrics(
    statistics: FidelityStatistics, real: Gaussian, real_kept_MF: np.ndarray | None
) -> dict[str, float]:
    """Fidelity metrics by the names that they have on Inception: fid, is, kid, precision, ...

    Frechet distance always; Inception Score when there are logits; KID, precision, recall, density
    and coverage when the real side kept features. `_std` is a spread over splits or subsets; KID
    has none where every subset is all that a side has, and thereby the same.
    MetricError when the sides do not fit.
    """
    values = {"fid": real.distance(statistics.result())}
    if statistics.scores is not None:
        values["is"], values["is_std"] = statistics.scores.result()
    if real_kept_MF is not None:
        fake, kept = torch.from_numpy(statistics.kept()[1]), torch.from_numpy(real_kept_MF)
        values["kid"], spread = kernel_distance(fake, kept)
        if min(len(fake), len(kept)) > KID_SUBSET_SIZE:
            values["kid_std"] = spread
        values |= manifold_metrics(fake, kept)
    return values


def _part(arrays: Arrays, part: str) -> dict[str, np.ndarray]:
    prefix = f"{part}/"
    found = {name.removeprefix(prefix): arrays[name] for name in arrays if name.startswith(prefix)}
    if not found:
        raise MetricError(f"a stored chunk holds no {part}: it is of another kind; remove it")
    return found


def _joined(parts: list[np.ndarray], dtype: type, *width: int) -> np.ndarray:
    return np.concatenate([np.empty((0, *width), dtype), *parts])
