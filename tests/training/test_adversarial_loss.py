"""Losses of the adversarial fine-tuning against values by hand."""

from __future__ import annotations

import math

import pytest
import torch

from unite.config.finetune import AdversarialConfig
from unite.training.adversarial_loss import (
    accuracy,
    adversarial_weight,
    discriminator_loss,
    generator_loss,
    in_8_bits,
    lecam_penalty,
)

REAL = torch.tensor([[2.0, 0.5], [-1.0, 1.0]])
FAKE = torch.tensor([[-3.0, 0.0], [1.0, -0.5]])


def test_hinge_by_hand():
    # real: 0, 0.5, 2, 0; fake: 0, 1, 2, 0.5
    assert float(discriminator_loss(REAL, FAKE, "hinge")) == 0.5 * (2.5 / 4 + 3.5 / 4)
    assert float(generator_loss(FAKE, "hinge")) == 2.5 / 4


def test_vanilla_by_hand():
    def softplus(x: float) -> float:
        return math.log1p(math.exp(x))

    real = sum(softplus(-v) for v in REAL.flatten().tolist()) / 4
    fake = sum(softplus(v) for v in FAKE.flatten().tolist()) / 4
    assert float(discriminator_loss(REAL, FAKE, "vanilla")) == pytest.approx(0.5 * (real + fake))
    wished = sum(softplus(-v) for v in FAKE.flatten().tolist()) / 4
    assert float(generator_loss(FAKE, "vanilla")) == pytest.approx(wished)


def test_the_generators_loss_falls_as_verdicts_rise():
    for kind in ("hinge", "vanilla"):
        assert generator_loss(FAKE + 1, kind) < generator_loss(FAKE, kind)


def test_accuracy_counts_right_verdicts_and_undecided_halves():
    # real right 3 of 4; fake right 2 of 4 and one at 0
    assert float(accuracy(REAL, FAKE)) == 0.5 * (0.75 + 0.625)


def test_lecam_by_hand():
    anchors = torch.tensor([1.0, -0.5])
    # real + 0.5: 2.5, 1, 0, 1.5; 1 - fake: 4, 1, 0, 1.5
    expected = (2.5**2 + 1 + 1.5**2) / 4 + (16 + 1 + 1.5**2) / 4
    assert float(lecam_penalty(REAL, FAKE, anchors)) == pytest.approx(expected)


def test_the_adaptive_weight_is_the_ratio_of_norms():
    config = AdversarialConfig(weight=0.75)
    weight = adversarial_weight(torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0]), config)
    assert float(weight) == pytest.approx(0.75 * 5 / 2, rel=1e-6)


def test_the_adaptive_weight_has_a_limit_and_the_fixed_one_is_itself():
    blind = torch.zeros(2)
    config = AdversarialConfig(weight=0.5, max_weight=100.0)
    assert float(adversarial_weight(torch.ones(2), blind, config)) == 50.0
    fixed = AdversarialConfig(weight=0.5, mode="fixed")
    assert float(adversarial_weight(torch.ones(2), blind, fixed)) == 0.5


def test_reconstructions_get_the_values_that_stored_images_have():
    stored = torch.arange(256, dtype=torch.uint8).float() / 255
    assert torch.equal(in_8_bits(stored), stored)
    made = in_8_bits(torch.tensor([-0.2, 0.5001 / 255, 0.4999 / 255, 1.7]))
    assert torch.equal(made, torch.tensor([0.0, 1 / 255, 0.0, 1.0]))
