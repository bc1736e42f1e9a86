"""The linear probe: known accuracies, held-out honesty, and features of latents."""

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning

from unite.metrics.linear_probe import ProbeConfig, latent_features, linear_probe

CONFIG = ProbeConfig()


def clusters(num, classes, width, spread, seed):
    """Gaussian clusters around fixed centres: features and labels."""
    centers = 3 * np.random.default_rng(0).normal(size=(classes, width))
    rng = np.random.default_rng(seed)
    labels = np.arange(num) % classes
    return centers[labels] + spread * rng.normal(size=(num, width)), labels


def test_separable_classes_are_read():
    train, test = clusters(200, 8, 6, 0.1, 1), clusters(80, 8, 6, 0.1, 2)
    result = linear_probe(*train, *test, CONFIG)
    assert result.top1 == result.top5 == 1.0
    assert (result.num_train, result.num_test, result.num_features) == (200, 80, 6)
    assert result.converged


def test_noise_is_at_chance_and_measured_on_held_out_samples():
    rng = np.random.default_rng(3)
    train, test = rng.normal(size=(300, 200)), rng.normal(size=(400, 200))
    result = linear_probe(train, np.arange(300) % 10, test, np.arange(400) % 10, CONFIG)
    # The training set itself is fitted perfectly here; held out, chance is 0.1 and 0.5.
    assert result.top1 == pytest.approx(0.1, abs=0.06)
    assert result.top5 == pytest.approx(0.5, abs=0.1)
    assert result.majority == pytest.approx(0.1)


def test_the_fit_is_deterministic_and_scale_free():
    train, test = clusters(100, 3, 4, 4.0, 1), clusters(60, 3, 4, 4.0, 2)
    result = linear_probe(*train, *test, CONFIG)
    scale = np.array([1e-3, 1.0, 10.0, 1e3])
    scaled = linear_probe(train[0] * scale, train[1], test[0] * scale, test[1], CONFIG)
    assert result == linear_probe(*train, *test, CONFIG)
    assert result.top1 == pytest.approx(scaled.top1, abs=0.02)
    assert result.top5 is None
    assert 0.4 < result.top1 < 1.0


def test_binary_and_unseen_classes():
    train, test = clusters(40, 2, 3, 0.1, 1), clusters(20, 2, 3, 0.1, 2)
    assert linear_probe(*train, *test, CONFIG).top1 == 1.0
    labels = test[1].copy()
    labels[:5] = 7
    assert linear_probe(*train, test[0], labels, CONFIG).top1 == 0.75


def test_too_few_iterations_are_said():
    train, test = clusters(100, 5, 6, 3.0, 1), clusters(50, 5, 6, 3.0, 2)
    with pytest.warns(ConvergenceWarning):
        result = linear_probe(*train, *test, ProbeConfig(max_iterations=2))
    assert not result.converged


def test_features_of_latents():
    z0 = torch.arange(24.0).reshape(2, 3, 4)
    np.testing.assert_array_equal(latent_features(z0, "mean")[0], [4, 5, 6, 7])
    np.testing.assert_array_equal(latent_features(z0, "flatten")[1], np.arange(12, 24))
    mask = torch.tensor([[True, True, False], [True, True, True]])
    np.testing.assert_allclose(latent_features(z0, "mean", mask)[0], [2, 3, 4, 5])
    with pytest.raises(ValueError, match="'flatten' needs equally many registers"):
        latent_features(z0, "flatten", mask)


def test_bad_input_is_refused():
    train, test = clusters(20, 2, 3, 0.1, 1), clusters(10, 2, 3, 0.1, 2)
    with pytest.raises(ValueError, match="test features"):
        linear_probe(*train, test[0], test[1][:5], CONFIG)
    with pytest.raises(ValueError, match="only class 0"):
        linear_probe(train[0], np.zeros(20, int), *test, CONFIG)
    with pytest.raises(ValueError, match="train features are not finite"):
        linear_probe(train[0] * np.nan, train[1], *test, CONFIG)
