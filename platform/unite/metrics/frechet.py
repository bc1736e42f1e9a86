"""Frechet distance between Gaussians, with the reference's matrix root cached (METHOD 5).

    d^2 = |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr sqrt(S1 S2)

With any root R of the reference, S1 = R R^T, the eigenvalues of S1 S2 are those of the symmetric
R^T S2 R (and zeros), so tr sqrt(S1 S2) is the sum of the square roots of its eigenvalues: one
symmetric eigenvalue problem instead of a general matrix root. Here R = V sqrt(w) holds the scaled
eigenvectors of S1, largest first. That order grades the product, which keeps its small eigenvalues
accurate, and columns that are mere rounding (rank-deficient S1) drop out. Arrays are float64;
shapes: F features, R rank of the reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from unite.lazy import torch
from unite.metrics.errors import MetricError

if TYPE_CHECKING:
    from torch import Tensor

SELF_TOLERANCE = 1e-6
"""Distance of a set to itself that is rounding, as a share of the trace of its covariance."""
BLOCK = 512
"""Rows of a product that are computed together."""
SYMMETRY_TOLERANCE = 1e-6
"""Largest asymmetry of a covariance, as a share of its largest entry."""
ADDITIONS = 1024
"""Roundings of float64 sums over a data set that may add up in one direction; a million additions
in random directions come to as many."""


def significant(eigenvalues_F: Tensor) -> Tensor:
    """Mask of the eigenvalues of a positive semi-definite matrix that are more than rounding.

    Its negative eigenvalues can only be rounding, so the lowest one tells the size of it. Roots
    would blow that up: sqrt(1e-16) is 1e-8, for each of the missing dimensions.
    """
    return eigenvalues_F > (-eigenvalues_F.min()).clamp_min(0)


def covariance_root(sigma_FF: np.ndarray) -> np.ndarray:
    """R (F, R) with R R^T = sigma: scaled eigenvectors, largest eigenvalue first."""
    eigenvalues_F, vectors_FF = torch.linalg.eigh(_tensor(sigma_FF))
    kept_F = significant(eigenvalues_F)
    root_FR = vectors_FF[:, kept_F] * eigenvalues_F[kept_F].sqrt()
    return root_FR.flip(1).contiguous().numpy()


def check_definite(mu_F: np.ndarray, sigma_FF: np.ndarray, stored: np.dtype) -> None:
    """MetricError unless a covariance has no eigenvalue below 0 by more than rounding.

    With one, a "distance" could be negative. `stored` is the type of the numbers in the file. Entry
    (i, j) is rounded when it is stored, and before as the difference of a sum and mu_i mu_j;
    errors e of F x F entries move an eigenvalue by F e at most.
    """
    largest, num = float(np.abs(sigma_FF).max(initial=0.0)), mu_F.size
    storing = np.finfo(stored).eps * largest if stored.kind == "f" else 0.0
    summing = ADDITIONS * np.finfo(float).eps * (largest + float(np.square(mu_F).max(initial=0.0)))
    tolerance = num * (storing + summing)
    sigma = _tensor(sigma_FF)
    # A factorisation tells in a tenth of the time that the eigenvalues need.
    if not int(torch.linalg.cholesky_ex(sigma + tolerance * torch.eye(num).double()).info):
        return
    smallest = float(torch.linalg.eigvalsh(sigma)[0])
    if smallest < -tolerance:
        raise MetricError(
            f"sigma is no covariance: its smallest eigenvalue is {smallest:.3g}, and rounding "
            f"explains no less than {-tolerance:.3g}; make the statistics anew"
        )


@dataclass(frozen=True)
class Gaussian:
    """Mean (F,) and covariance (F, F) of features; the covariance's root is computed once."""

    mu_F: np.ndarray
    sigma_FF: np.ndarray
    saved_root_FR: np.ndarray | None = None
    """R with R R^T = sigma from an earlier run; None = computed on first use."""

    def __post_init__(self) -> None:
        num = self.mu_F.size
        if self.mu_F.shape != (num,) or self.sigma_FF.shape != (num, num):
            raise MetricError(
                f"mu and sigma have shapes {self.mu_F.shape} and {self.sigma_FF.shape}; they must "
                "be (F,) and (F, F)"
            )
        if not (np.isfinite(self.mu_F).all() and np.isfinite(self.sigma_FF).all()):
            raise MetricError("mu or sigma hold NaN or infinite values: make the statistics anew")
        largest = np.abs(self.sigma_FF).max(initial=0.0)
        if np.abs(self.sigma_FF - self.sigma_FF.T).max(initial=0.0) > SYMMETRY_TOLERANCE * largest:
            raise MetricError("sigma is not symmetric, so it is no covariance")

    @cached_property
    def root(self) -> np.ndarray:
        """R (F, R) with R R^T = sigma."""
        if self.saved_root_FR is not None:
            return self.saved_root_FR
        return covariance_root(self.sigma_FF)

    @cached_property
    def trace(self) -> float:
        """Trace of the covariance."""
        return float(np.trace(self.sigma_FF))

    def distance(self, other: Gaussian) -> float:
        """Squared Frechet distance to `other`, whose root is not needed: FID on Inception features.

        Rounding can leave a tiny negative value between equal sets; it is returned as it is.
        MetricError when the numbers of features differ.
        """
        if other.mu_F.shape != self.mu_F.shape:
            raise MetricError(
                f"one side has {self.mu_F.size} features and the other {other.mu_F.size}: they "
                "come from different extractors"
            )
        shift_F = self.mu_F - other.mu_F
        cross = self._cross_trace(_tensor(other.sigma_FF))
        return float(shift_F @ shift_F) + self.trace + other.trace - 2 * cross

    def _cross_trace(self, sigma_FF: Tensor) -> float:
        """tr sqrt(S1 S2) with this Gaussian's S1 and the other's S2 = sigma_FF."""
        root_FR = _tensor(self.root)
        if not root_FR.shape[1]:
            return 0.0
        product_RR = _lower_product(root_FR, sigma_FF @ root_FR)
        eigenvalues_R = torch.linalg.eigvalsh(product_RR)
        return float(eigenvalues_R[significant(eigenvalues_R)].sqrt().sum())

    def self_test(self) -> float:
        """Distance to itself; MetricError unless it is rounding."""
        distance = self.distance(self)
        if abs(distance) > SELF_TOLERANCE * max(self.trace, np.finfo(float).tiny):
            raise MetricError(
                f"self-test failed: the Frechet distance of the reference to itself is {distance} "
                f"with trace {self.trace}. sigma is damaged, or linear algebra is broken here"
            )
        return distance


def _lower_product(left_FR: Tensor, right_FR: Tensor) -> Tensor:
    """Lower triangle of the symmetric left^T right, the part that an eigen-solver reads.

    Blocks above the diagonal are left out, a third of the multiplications.
    """
    rank = left_FR.shape[1]
    product_RR = left_FR.new_zeros(rank, rank)
    for low in range(0, rank, BLOCK):
        high = min(low + BLOCK, rank)
        product_RR[low:high, :high] = left_FR[:, low:high].T @ right_FR[:, :high]
    return product_RR


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float64))
