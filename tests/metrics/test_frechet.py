import warnings

import numpy as np
import pytest
import scipy.linalg

from unite.metrics import frechet
from unite.metrics.errors import MetricError
from unite.metrics.frechet import Gaussian, covariance_root


def samples(num: int, width: int, *, decay: float = 0.5, seed: int = 0) -> np.ndarray:
    """Features with a falling spectrum in a random basis, as networks have them."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(np.random.default_rng(99).standard_normal((width, width)))[0]
    scale = np.arange(1, width + 1, dtype=float) ** -decay
    return (rng.standard_normal((num, width)) * scale) @ basis + 0.3 * rng.random(width)


def moments(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x.mean(axis=0), np.cov(x, rowvar=False)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return Gaussian(*moments(a)).distance(Gaussian(*moments(b)))


def by_sqrtm(a: np.ndarray, b: np.ndarray) -> float:
    (mu1, sigma1), (mu2, sigma2) = moments(a), moments(b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = scipy.linalg.sqrtm(sigma1 @ sigma2)
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1 + sigma2 - 2 * np.real(root)))


def exactly(a: np.ndarray, b: np.ndarray) -> float:
    """From the samples: tr sqrt(S1 S2) is the nuclear norm of A B^T, with S1 = A^T A."""
    (mu1, sigma1), (mu2, sigma2) = moments(a), moments(b)
    left, right = (x - x.mean(axis=0) for x in (a, b))
    cross = np.linalg.norm(left @ right.T, "nuc") / np.sqrt((len(a) - 1) * (len(b) - 1))
    return float(((mu1 - mu2) ** 2).sum() + np.trace(sigma1) + np.trace(sigma2) - 2 * cross)


def rounding(*sets: np.ndarray) -> float:
    """What a distance may be off by: traces cancel in it, and where dimensions are missing an
    eigenvalue of 2e-16 of the largest is rounding, whose root is 1.5e-8."""
    return np.finfo(float).eps ** 0.5 * sum(np.trace(moments(x)[1]) for x in sets)


CASES = {
    "well conditioned": (400, 300, 16, 0.0),
    "64 features": (500, 400, 64, 0.5),
    "200 features": (600, 700, 200, 0.5),
    "near singular": (800, 700, 128, 2.0),
    "nearly all rounding": (400, 300, 96, 4.0),
    "rank-deficient reference": (40, 500, 128, 0.5),
    "rank-deficient samples": (500, 40, 128, 0.5),
    "both rank-deficient": (30, 40, 150, 0.5),
    "one feature": (50, 60, 1, 0.0),
}


@pytest.mark.parametrize("case", CASES)
def test_agrees_with_the_general_matrix_root(case):
    num_a, num_b, width, decay = CASES[case]
    a = samples(num_a, width, decay=decay)
    b = 1.2 * samples(num_b, width, decay=decay, seed=1) + 0.1
    if width == 1:
        (mu1, var1), (mu2, var2) = ((x.mean(), x.var(ddof=1)) for x in (a, b))
        expected = (mu1 - mu2) ** 2 + var1 + var2 - 2 * np.sqrt(var1 * var2)
        sigmas = (np.array([[var1]]), np.array([[var2]]))
        one, other = (Gaussian(x.mean(axis=0), s) for x, s in zip((a, b), sigmas, strict=True))
        found = one.distance(other)
        assert found == pytest.approx(expected, rel=1e-12)
    else:
        expected = by_sqrtm(a, b)
        found = distance(a, b)
        assert found == pytest.approx(exactly(a, b), abs=rounding(a, b))
        # The general root has such an eigenvalue in every dimension.
        assert found == pytest.approx(expected, abs=width * rounding(a, b))


def test_close_sets_keep_their_small_distance():
    """Where the traces cancel, rounding in each of the missing dimensions would show."""
    a = samples(60, 256)
    b = a + 1e-3
    found = distance(a, b)
    assert found == pytest.approx(256e-6, abs=rounding(a, b))


def test_is_symmetric_and_zero_on_itself():
    a, b = samples(300, 32), samples(200, 32, seed=1)
    there = distance(a, b)
    assert there == pytest.approx(distance(b, a), rel=1e-10)
    for x in (a, samples(20, 64), np.ones((5, 3))):
        gaussian = Gaussian(*moments(x))
        assert abs(gaussian.self_test()) <= 1e-9 * max(gaussian.trace, 1.0)


def test_shift_alone_counts_its_square():
    a = samples(300, 8)
    assert distance(a, a + 2.0) == pytest.approx(32.0)


def test_root_multiplies_back_and_drops_missing_dimensions():
    _, sigma = moments(samples(21, 40))
    root = covariance_root(sigma)
    assert root.shape[0] == 40
    assert root.shape[1] < 30
    assert np.allclose(root @ root.T, sigma, atol=1e-12)


def test_a_saved_root_is_used():
    a, b = samples(100, 6), samples(90, 6, seed=1)
    plain = Gaussian(*moments(a))
    saved = Gaussian(*moments(a), plain.root)
    assert saved.distance(Gaussian(*moments(b))) == plain.distance(Gaussian(*moments(b)))
    assert saved.root is plain.root
    other = Gaussian(*moments(a), 2 * plain.root)
    assert other.distance(Gaussian(*moments(b))) != plain.distance(Gaussian(*moments(b)))


def test_bad_statistics_are_refused():
    mu, sigma = moments(samples(50, 4))
    with pytest.raises(MetricError, match=r"\(4,\) and \(4, 3\)"):
        Gaussian(mu, sigma[:, :3])
    with pytest.raises(MetricError, match="NaN"):
        Gaussian(mu, sigma * np.nan)
    with pytest.raises(MetricError, match="not symmetric"):
        Gaussian(mu, np.triu(sigma) + 0.1 * np.triu(np.ones((4, 4)), 1))
    with pytest.raises(MetricError, match="4 features and the other 3"):
        Gaussian(mu, sigma).distance(Gaussian(mu[:3], sigma[:3, :3]))
    with pytest.raises(MetricError, match="self-test failed"):
        Gaussian(mu, sigma, 2 * Gaussian(mu, sigma).root).self_test()


def test_products_larger_than_a_block(monkeypatch):
    a, b = samples(300, 50), samples(200, 50, seed=1)
    expected = distance(a, b)
    monkeypatch.setattr(frechet, "BLOCK", 16)
    assert distance(a, b) == pytest.approx(expected, rel=1e-12)
