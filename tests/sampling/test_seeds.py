"""Noise from seeds, and which classes are drawn."""

import pytest
import torch

from unite.sampling.protocol import check_balanced
from unite.sampling.seeds import (
    fresh_seeds,
    labels_in_turn,
    sample_noise,
    sample_seeds,
    uniform_labels,
)

FROZEN_NOISE = [0.0032321, 1.3904302, -0.3080845, -0.7355410]


def test_noise_is_a_function_of_the_seed_alone():
    seeds = torch.tensor([3, 0, -5, 1 << 62])
    noise = sample_noise(seeds, (16, 4))
    assert noise.shape == (4, 16, 4)
    for row in range(4):
        assert torch.equal(sample_noise(seeds[row : row + 1], (16, 4))[0], noise[row])
    assert noise.flatten(1).unique(dim=0).shape[0] == 4


def test_noise_of_a_seed_is_frozen():
    # Published samples are named by their seeds: these values must never change.
    noise = sample_noise(torch.tensor([7]), (2, 2)).flatten()
    torch.testing.assert_close(noise, torch.tensor(FROZEN_NOISE), rtol=0, atol=1e-6)


def test_sets_share_no_seeds_and_ranges_agree():
    first, second = (sample_seeds(seed, torch.arange(1000)) for seed in (0, 1))
    assert torch.cat([first, second]).unique().numel() == 2000
    assert torch.equal(sample_seeds(0, torch.arange(500, 600)), first[500:600])


def test_fresh_seeds_differ():
    assert fresh_seeds(100).unique().numel() == 100
    assert not torch.equal(fresh_seeds(3), fresh_seeds(3))


def test_labels_in_turn_are_balanced():
    labels = labels_in_turn(torch.arange(50), 10)
    assert labels.bincount().tolist() == [5] * 10
    assert labels[:10].tolist() == list(range(10))


def test_without_classes_every_label_is_the_null_class():
    assert (
        labels_in_turn(torch.arange(5), 0).tolist()
        == uniform_labels(5, 0, seed=1).tolist()
        == [0] * 5
    )


@pytest.mark.parametrize(("num", "classes"), [(55, 10), (10, 20)])
def test_uneven_counts_are_refused(num, classes):
    with pytest.raises(ValueError, match=f"{num} samples cannot be spread evenly"):
        check_balanced(num, classes)


def test_uniform_labels_are_uniform_and_addressed():
    labels = uniform_labels(100_000, 10, seed=1)
    assert labels.min() == 0 and labels.max() == 9
    counts = labels.bincount().double()
    assert ((counts - 1e4) ** 2 / 1e4).sum() < 30  # chi-square, 9 degrees of freedom
    assert torch.equal(uniform_labels(100, 10, seed=1), labels[:100])
    assert not torch.equal(uniform_labels(100, 10, seed=2), labels[:100])
