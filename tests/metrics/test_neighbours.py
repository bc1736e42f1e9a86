import numpy as np
import pytest
import torch
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from unite.metrics import neighbours
from unite.metrics.errors import MetricError
from unite.metrics.neighbours import kernel_distance, manifold_metrics


def features(num: int, width: int = 6, *, shift: float = 0.0, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, width, generator=generator, dtype=torch.float64) + shift


def test_kid_is_that_of_torch_fidelity():
    fake, real = features(130, shift=0.4), features(150, seed=1)
    theirs = kid_features_to_metric(
        fake, real, kid_subsets=7, kid_subset_size=50, rng_seed=5, verbose=False
    )
    mean, std = kernel_distance(fake, real, subsets=7, subset_size=50, seed=5)
    assert mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-10)
    assert std == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-10)


def test_kid_of_equal_distributions_is_near_zero_and_grows_with_shift():
    real = features(400, seed=1)
    same, _ = kernel_distance(features(400), real, subsets=20, subset_size=200)
    moved, _ = kernel_distance(features(400, shift=0.5), real, subsets=20, subset_size=200)
    assert abs(same) < 0.1 * moved


def test_kid_subsets_shrink_to_the_smaller_side():
    few, many = features(30), features(80, seed=1)
    whole = kernel_distance(few, many, subsets=2, subset_size=30)
    assert kernel_distance(few, many, subsets=2) == whole
    assert kernel_distance(few, many, subsets=2, subset_size=20) != whole
    with pytest.raises(MetricError, match="at least 2"):
        kernel_distance(features(1), features(80, seed=1))


def test_precision_and_recall_are_those_of_torch_fidelity():
    fake, real = features(90, shift=0.7), features(110, seed=1)
    theirs = prc_features_to_metric(fake, real, verbose=False)
    ours = manifold_metrics(fake, real)
    assert ours["precision"] == pytest.approx(theirs["precision"])
    assert ours["recall"] == pytest.approx(theirs["recall"])


def by_hand(fake: np.ndarray, real: np.ndarray, k: int) -> tuple[float, float]:
    """Density and coverage, sample by sample (Naeem et al. 2020, eq. 3 and 4)."""
    inside = covered = 0
    for i, centre in enumerate(real):
        others = sorted(np.linalg.norm(centre - x) for j, x in enumerate(real) if j != i)
        radius = others[k - 1]
        hits = sum(np.linalg.norm(centre - x) <= radius for x in fake)
        inside += hits
        covered += hits > 0
    return inside / (k * len(fake)), covered / len(real)


@pytest.mark.parametrize("block", [7, 2048])
def test_density_and_coverage_by_hand(monkeypatch, block):
    monkeypatch.setattr(neighbours, "BLOCK", block)
    fake, real = features(40, shift=0.6), features(30, seed=1)
    density, coverage = by_hand(fake.numpy(), real.numpy(), k=5)
    ours = manifold_metrics(fake, real)
    assert ours["density"] == pytest.approx(density)
    assert ours["coverage"] == pytest.approx(coverage)
    assert 0 < coverage < 1


def test_perfect_and_hopeless_fakes():
    real = features(60)
    assert manifold_metrics(real, real) == pytest.approx(
        {"precision": 1, "recall": 1, "coverage": 1, "density": 1}, abs=0.25
    )
    far = manifold_metrics(real + 1000, real)
    assert far == {"precision": 0, "recall": 0, "coverage": 0, "density": 0}
    # One good image repeated: precise, but it covers nothing.
    collapsed = manifold_metrics(real[:1].expand(60, -1) + 1e-6 * features(60, seed=2), real)
    assert collapsed["precision"] == 1
    assert collapsed["coverage"] < 0.3
    assert collapsed["recall"] < 0.1


def test_neighbours_need_enough_samples_of_one_width():
    with pytest.raises(MetricError, match="at least 6 .* has 5"):
        manifold_metrics(features(5), features(50))
    with pytest.raises(MetricError, match=r"\(50, 4\), not \(samples, 6\)"):
        manifold_metrics(features(50), features(50, 4))
