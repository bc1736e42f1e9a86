"""Augmentation before the discriminator."""

from __future__ import annotations

import pytest
import torch

from unite.config.finetune import DiscriminatorConfig
from unite.flow.random import stream_keys, uniform
from unite.training.augment import augment


def keys(*rows: int) -> torch.Tensor:
    return stream_keys(0, torch.tensor(rows))


def pictures(count: int, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_real_and_fake_of_one_address_are_changed_alike():
    """With the draws equal, the change of the difference is the change of both."""
    config = DiscriminatorConfig(augment_colour=False)
    real, fake = pictures(6), pictures(6).flip(0)
    moved = augment(real, keys(*range(6)), config) - augment(fake, keys(*range(6)), config)
    torch.testing.assert_close(moved, augment(real - fake, keys(*range(6)), config))


def test_a_change_depends_on_the_address_alone():
    config = DiscriminatorConfig()
    together = augment(pictures(4), keys(7, 8, 9, 10), config)
    alone = augment(pictures(4)[2:3], keys(9), config)
    torch.testing.assert_close(together[2:3], alone)
    assert not torch.equal(augment(pictures(4), keys(1, 2, 3, 4), config), together)


def test_shifts_are_whole_pixels_within_their_bound_and_bring_zeros():
    config = DiscriminatorConfig(augment_colour=False)
    point = torch.zeros(400, 1, 16, 16)
    point[:, :, 8, 8] = 1.0
    moved = augment(point, keys(*range(400)), config)
    assert torch.equal(moved.sum((1, 2, 3)), torch.ones(400))
    places = moved[:, 0].nonzero()[:, 1:] - 8
    assert places.min() == -2 and places.max() == 2  # an eighth of 16 pixels
    assert (augment(torch.ones_like(point), keys(*range(400)), config) == 0).any()


def test_colour_keeps_the_mean_but_for_brightness():
    config = DiscriminatorConfig(augment_shift=0.0)
    before, after = pictures(50), augment(pictures(50), keys(*range(50)), config)
    change = (after.mean((1, 2, 3)) - before.mean((1, 2, 3))).abs()
    assert 0.1 < change.max() <= 0.25 + 1e-6
    assert not torch.allclose(
        after - after.mean((1, 2, 3), True), before - before.mean((1, 2, 3), True)
    )


@pytest.mark.parametrize(
    ("probability", "low", "high"), [(0.0, 0, 0), (0.5, 60, 140), (1.0, 190, 200)]
)
def test_the_probability_is_the_share_of_changed_images(probability, low, high):
    config = DiscriminatorConfig(augment_probability=probability)
    after = augment(pictures(200), keys(*range(200)), config)
    changed = (after != pictures(200)).flatten(1).any(1).sum()
    assert low <= changed <= high


def test_gradients_pass_through():
    sample = pictures(8).requires_grad_()
    augment(sample, keys(*range(8)), DiscriminatorConfig()).square().sum().backward()
    assert (sample.grad.flatten(1).abs().sum(1) > 0).all()


def test_colour_is_that_of_one_image_written_out():
    """Brightness first, then saturation around grey, then contrast around the mean."""
    config, before = DiscriminatorConfig(augment_shift=0.0), pictures(20)
    after = augment(before, keys(*range(20)), config)
    for x, y, draws in zip(before, after, uniform(keys(*range(20)), (6,)), strict=True):
        brightness, saturation, contrast = (float(draw) for draw in draws[3:])
        x = x + 0.5 * (brightness - 0.5)
        grey = x.mean(dim=0)
        x = torch.stack([2 * saturation * channel + (1 - 2 * saturation) * grey for channel in x])
        x = (0.5 + contrast) * x + (0.5 - contrast) * x.mean()
        torch.testing.assert_close(y, x, rtol=0, atol=16 * 6e-8)
