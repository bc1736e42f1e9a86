"""Metrics of two feature sets that need samples, not moments: KID and the manifold metrics.

They run on the addressed subsamples that `fidelity.py` keeps, in float64. "Fake" is what the model
made, "real" is the reference. Shapes: N fake, M real samples, F features.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from unite.lazy import torch
from unite.metrics.errors import MetricError
from unite.metrics.moments import check_features

if TYPE_CHECKING:
    from torch import Tensor

KID_SUBSETS = 100
KID_SUBSET_SIZE = 1000
KID_SEED = 2020
"""Seed of torch-fidelity, so that equal features give equal values."""
PR_NEIGHBOURS = 3
"""k of precision and recall (Kynkaanniemi et al. 2019; torch-fidelity's default)."""
DC_NEIGHBOURS = 5
"""k of density and coverage (Naeem et al. 2020)."""
BLOCK = 2048
"""Rows of a distance matrix that are in memory at a time."""


def kernel_distance(
    fake_NF: Tensor,
    real_MF: Tensor,
    *,
    subsets: int = KID_SUBSETS,
    subset_size: int = KID_SUBSET_SIZE,
    seed: int = KID_SEED,
) -> tuple[float, float]:
    """Unbiased MMD^2 with the kernel (x.y / F + 1)^3: mean and standard deviation over random
    subsets (Binkowski et al. 2018).

    Subsets hold `subset_size` samples of each side, or as many as the smaller side has. Slightly
    negative values mean equal distributions. MetricError for fewer than 2 samples.
    """
    fake_NF, real_MF = _pair(fake_NF, real_MF)
    size = min(subset_size, len(fake_NF), len(real_MF))
    _require(size, 2, "the kernel distance")
    rng = np.random.RandomState(seed)
    values = []
    for _ in range(subsets):
        fake_SF = fake_NF[_choice(rng, len(fake_NF), size)]
        real_SF = real_MF[_choice(rng, len(real_MF), size)]
        values.append(_unbiased_mmd(fake_SF, real_SF))
    return float(np.mean(values)), float(np.std(values))


def _choice(rng: np.random.RandomState, num: int, size: int) -> Tensor:
    return torch.from_numpy(rng.choice(num, size, replace=False))


def _unbiased_mmd(a_SF: Tensor, b_SF: Tensor) -> float:
    size, width = a_SF.shape

    def kernel(x_SF: Tensor, y_SF: Tensor) -> Tensor:
        return (x_SF @ y_SF.T / width + 1) ** 3

    within = 0.0
    for x_SF in (a_SF, b_SF):
        kernel_SS = kernel(x_SF, x_SF)
        within += float(kernel_SS.sum() - kernel_SS.diagonal().sum()) / (size * (size - 1))
    return within - 2 * float(kernel(a_SF, b_SF).mean())


def manifold_metrics(fake_NF: Tensor, real_MF: Tensor) -> dict[str, float]:
    """`precision`, `recall`, `density`, `coverage` from balls around samples.

    A ball reaches to its centre's k-th nearest neighbour within the same set, boundary included.
    precision: share of fakes in any real ball. recall: share of reals in any fake ball.
    density: real balls over a fake, divided by k. coverage: share of real balls with a fake.
    MetricError when a side has no k neighbours.
    """
    fake_NF, real_MF = _pair(fake_NF, real_MF)
    least = max(PR_NEIGHBOURS, DC_NEIGHBOURS) + 1
    _require(min(len(fake_NF), len(real_MF)), least, "precision, recall, density and coverage")
    fake_radii_N = _radii(fake_NF, (PR_NEIGHBOURS,))[0]
    pr_radii_M, dc_radii_M = _radii(real_MF, (PR_NEIGHBOURS, DC_NEIGHBOURS))
    precise_N = torch.zeros(len(fake_NF), dtype=torch.bool, device=fake_NF.device)
    recalled = covered = inside = 0
    for rows in torch.arange(len(real_MF), device=real_MF.device).split(BLOCK):
        distance_RN = torch.cdist(real_MF[rows], fake_NF)
        precise_N |= (distance_RN <= pr_radii_M[rows, None]).any(dim=0)
        recalled += int((distance_RN <= fake_radii_N).any(dim=1).sum())
        in_ball_RN = distance_RN <= dc_radii_M[rows, None]
        inside += int(in_ball_RN.sum())
        covered += int(in_ball_RN.any(dim=1).sum())
    return {
        "precision": float(precise_N.double().mean()),
        "recall": recalled / len(real_MF),
        "density": inside / (DC_NEIGHBOURS * len(fake_NF)),
        "coverage": covered / len(real_MF),
    }


def _radii(x_NF: Tensor, neighbours: tuple[int, ...]) -> list[Tensor]:
    """Distance of each row to its k-th nearest other row, one tensor (N,) per k."""
    blocks: list[list[Tensor]] = [[] for _ in neighbours]
    for rows_RF in x_NF.split(BLOCK):
        distance_RN = torch.cdist(rows_RF, x_NF)
        for radii, k in zip(blocks, neighbours, strict=True):
            # The nearest of all is the row itself.
            radii.append(distance_RN.kthvalue(k + 1, dim=1).values)
    return [torch.cat(radii) for radii in blocks]


def _pair(fake_NF: Tensor, real_MF: Tensor) -> tuple[Tensor, Tensor]:
    fake_NF = check_features(fake_NF)
    return fake_NF, check_features(real_MF, fake_NF.shape[1]).to(fake_NF.device)


def _require(num: int, least: int, what: str) -> None:
    if num < least:
        raise MetricError(
            f"{what} need at least {least} samples on each side; the smaller side has {num}"
        )
