import numpy as np
import pytest
import torch

from unite.metrics.errors import MetricError
from unite.metrics.moments import Moments, check_features


def features(num: int, width: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num, width, generator=generator) * 3 + 5


def total(parts: list[Moments]) -> Moments:
    """Sum of parts, as the driver adds them."""
    moments = Moments.zeros(parts[0].num_features)
    for part in parts:
        moments.merge(part.to_arrays())
    return moments


def test_mean_and_covariance_are_those_of_numpy():
    x = features(50, 7)
    moments = Moments.of(x)
    assert np.allclose(moments.mean(), x.double().numpy().mean(axis=0), rtol=1e-13)
    assert np.allclose(moments.covariance(), np.cov(x.double().numpy(), rowvar=False), rtol=1e-11)


def test_sums_are_float64():
    # In float32 the square of 1e3 would swallow a spread of 3e-2.
    x = 1e3 + 1e-2 * features(200, 3).double()
    expected = np.cov(x.numpy(), rowvar=False)
    assert np.allclose(Moments.of(x).covariance(), expected, rtol=0, atol=1e-5 * expected.max())


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_bits_do_not_depend_on_who_counted_a_chunk(workers):
    x = features(60, 5)
    chunks = {index: Moments.of(part) for index, part in enumerate(x.split(10))}
    # Workers finish in any order; the driver adds by index.
    finished = sorted(chunks, key=lambda index: (index % workers, -index))
    found = total([chunks[index] for index in sorted(finished)])
    expected = total([Moments.of(part) for part in x.split(10)])
    assert found.num == 60
    assert torch.equal(found.outer_FF, expected.outer_FF)
    assert torch.equal(found.sum_F, expected.sum_F)


def test_parts_add_up_to_the_whole_for_any_cut():
    x = features(60, 5)
    whole = Moments.of(x)
    for size in (1, 7, 60):
        parts = total([Moments.of(part) for part in x.split(size)])
        assert np.allclose(parts.covariance(), whole.covariance(), rtol=1e-12)


def test_covariance_is_exactly_symmetric():
    covariance = total([Moments.of(x) for x in features(90, 33).split(13)]).covariance()
    assert np.array_equal(covariance, covariance.T)


def test_arrays_round_trip():
    moments = Moments.of(features(20, 4))
    again = Moments.zeros(4)
    again.merge(moments.to_arrays())
    assert again.num == 20
    assert torch.equal(again.sum_F, moments.sum_F)
    assert torch.equal(again.outer_FF, moments.outer_FF)
    again.update(features(5, 4))
    assert moments.num == 20
    assert not torch.equal(again.sum_F, moments.sum_F)


def test_wrong_features_are_named():
    moments = Moments.zeros(4)
    with pytest.raises(MetricError, match=r"\(3, 5\), not \(samples, 4\)"):
        moments.update(features(3, 5))
    with pytest.raises(MetricError, match="not"):
        moments.update(torch.zeros(4))
    broken = features(6, 4)
    broken[2, 1] = torch.nan
    broken[4, 0] = torch.inf
    with pytest.raises(MetricError, match="2 of 6 samples .* first in row 2"):
        moments.update(broken)
    assert moments.num == 0
    with pytest.raises(MetricError, match="NaN"):
        check_features(broken)


def test_too_few_samples_and_other_widths_are_refused():
    with pytest.raises(MetricError, match="at least 2"):
        Moments.of(features(1, 3)).covariance()
    with pytest.raises(MetricError, match="at least 1"):
        Moments.zeros(3).mean()
    with pytest.raises(MetricError, match="different extractors"):
        Moments.zeros(3).merge(Moments.zeros(4).to_arrays())
