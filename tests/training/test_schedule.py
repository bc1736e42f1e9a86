"""Learning rate and flow weight against values worked out by hand."""

from __future__ import annotations

import math

import pytest

from unite.config.recipes import recipe
from unite.config.schema import FlowConfig, OptimConfig
from unite.training.schedule import flow_weight, learning_rate, peak_learning_rate

EPOCH = 1000
BATCH = 10


def rate(images_seen: int, config: OptimConfig, *, epochs: int = 240, batch: int = BATCH) -> float:
    return learning_rate(
        images_seen,
        config,
        batch_size=batch,
        images_per_epoch=EPOCH,
        total_images=epochs * EPOCH,
    )


def at_end(epoch: float, config: OptimConfig, **more: int) -> float:
    """Rate of the step that ends at `epoch`."""
    return rate(round(epoch * EPOCH) - BATCH, config, **more)


@pytest.mark.parametrize(
    ("batch", "reference", "expected"),
    [(1024, 384, 1e-4 * 1024 / 384), (384, 384, 1e-4), (64, 384, 1e-4), (1024, 0, 1e-4)],
)
def test_batch_rule(batch: int, reference: int, expected: float) -> None:
    config = OptimConfig(lr=1e-4, lr_batch_reference=reference)
    assert peak_learning_rate(config, batch_size=batch) == pytest.approx(expected)


def test_warmup_is_linear_and_its_first_step_is_not_zero() -> None:
    config = OptimConfig(lr=1.0, warmup_epochs=20.0)
    assert rate(0, config) == pytest.approx(BATCH / (20 * EPOCH))
    assert at_end(5, config) == pytest.approx(0.25)
    assert at_end(20, config) == pytest.approx(1.0)


def test_cosine_to_the_minimum() -> None:
    config = OptimConfig(lr=1.0, lr_min=0.1, warmup_epochs=20.0)
    # Warm-up ends at 20 of 240 epochs: the middle of the cosine is at 130, its quarter at 75.
    assert at_end(75, config) == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi / 4)))
    assert at_end(130, config) == pytest.approx(0.55)
    assert at_end(240, config) == pytest.approx(0.1)
    assert at_end(250, config) == pytest.approx(0.1)


def test_cosine_minimum_is_not_scaled_by_the_batch() -> None:
    config = OptimConfig(lr=1e-4, lr_min=1e-6)
    last = learning_rate(
        240 * 1024 - 1024, config, batch_size=1024, images_per_epoch=1024, total_images=240 * 1024
    )
    assert last == pytest.approx(1e-6)


def test_cosine_never_rises_to_a_larger_minimum() -> None:
    config = OptimConfig(lr=1e-8, lr_min=1e-6, warmup_epochs=0.0)
    assert at_end(120, config) == at_end(240, config) == pytest.approx(1e-8)


def test_plateau_as_released() -> None:
    config = OptimConfig(lr=1.0, schedule="plateau")
    assert at_end(10, config, epochs=600) == pytest.approx(0.5)
    assert at_end(20, config, epochs=600) == pytest.approx(1.0)
    assert at_end(30, config, epochs=600) == pytest.approx(1.0)
    # Half a cosine from 1 to 0.5 between 30 and 50: 0.75 in its middle.
    assert at_end(40, config, epochs=600) == pytest.approx(0.75)
    assert at_end(50, config, epochs=600) == pytest.approx(0.5)
    assert at_end(600, config, epochs=600) == pytest.approx(0.5)


BATCHES = 2_502
"""Batches of the released loader in an epoch of ImageNet: 8 GPUs x 64 images each."""
ACCUMULATION = 2
"""Batches per optimiser step, as shipped: 1024 images."""
STEPS = BATCHES // ACCUMULATION


def released_rate(step: int) -> float:
    """Rate of an optimiser step over its peak: stages of 20, 30, 50 epochs, counted in batches."""
    warm, flat, half = 20 * BATCHES, 30 * BATCHES, 50 * BATCHES
    if step < warm:
        return step / warm
    share = min(max(step - flat, 0) / (half - flat), 1.0)
    return 0.75 + 0.25 * math.cos(math.pi * share)


def test_a_ramp_shorter_than_an_image_still_begins_at_zero() -> None:
    config = FlowConfig(warmup_fraction=0.05)
    assert flow_weight(0, config, total_images=10) == 0.0
    assert flow_weight(1, config, total_images=10) == config.weight


@pytest.mark.parametrize("name", ["unite-b-released", "unite-b", "unite-l"])
def test_released_recipes_follow_the_released_scheduler_over_real_epochs(name: str) -> None:
    config = recipe(name).optim
    peak = peak_learning_rate(config, batch_size=1024)
    for step in range(0, 120 * STEPS, 97):
        ours = learning_rate(
            step * 1024,
            config,
            batch_size=1024,
            images_per_epoch=STEPS * 1024,
            total_images=240 * STEPS * 1024,
        )
        # Ours is the rate of the step's end: one step of warm-up, the steepest stage, ahead.
        assert ours / peak == pytest.approx(released_rate(step), abs=1.01 / (40 * STEPS)), step
    stages = {40: 1.0, 60: 1.0, 80: 0.75, 100: 0.5, 119: 0.5}
    assert {epoch: released_rate(epoch * STEPS) for epoch in stages} == pytest.approx(stages)


def test_no_warmup_starts_at_the_peak() -> None:
    config = OptimConfig(lr=1.0, warmup_epochs=0.0, lr_min=0.0)
    assert rate(0, config) == pytest.approx(1.0, rel=1e-6)


def test_training_that_ends_within_warmup_stays_on_the_ramp() -> None:
    config = OptimConfig(lr=1.0, warmup_epochs=20.0)
    assert at_end(10, config, epochs=10) == pytest.approx(0.5)


def test_training_that_ends_with_warmup_reaches_the_minimum() -> None:
    config = OptimConfig(lr=1.0, lr_min=0.1, warmup_epochs=10.0)
    assert at_end(10, config, epochs=10) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("images", "expected"), [(0, 0.0), (150, 1.0), (300, 2.0), (301, 2.0), (1000, 2.0)]
)
def test_flow_weight_ramps_over_its_fraction(images: int, expected: float) -> None:
    config = FlowConfig(weight=2.0, warmup_fraction=0.3)
    assert flow_weight(images, config, total_images=1000) == pytest.approx(expected)


def test_flow_weight_without_ramp_is_constant() -> None:
    config = FlowConfig(weight=2.0)
    assert flow_weight(0, config, total_images=1000) == 2.0
