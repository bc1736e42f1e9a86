"""What is refused before Ray starts: one row per check, the message with field, value and cure."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch

from unite.config.recipes import names, recipe
from unite.config.schema import RunConfig
from unite.config.serialise import flatten
from unite.config.serialise import replace as change
from unite.config.validate import FRACTIONS, NOT_NEGATIVE, POSITIVE, validate, warnings_of

BASE = recipe("digits")
CHECKS = {
    "channels": ({"domain.channels": 2}, "domain.channels = 2 must be 1 (grey) or 3 (RGB)"),
    "seed": (
        {"training.seed": 2**64},
        "training.seed = 18446744073709551616 must lie in -9223372036854775808.."
        "18446744073709551615",
    ),
    "size 0": ({"domain.size": 0}, "domain.size = 0 must be above 0"),
    "patch 0": ({"domain.patch": 0}, "domain.patch = 0 must be above 0"),
    "patch": (
        {"domain.patch": 3},
        "domain.size = 8 is not divisible by domain.patch = 3; the nearest sizes are 6 and 9",
    ),
    "patch above": (
        {"domain.patch": 16},
        "domain.size = 8 is not divisible by domain.patch = 16; 16 is, for one",
    ),
    "registers": (
        {"model.num_registers": 4},
        "model.num_registers = 4 but the decoder draws one patch from each register: set it to "
        "(domain.size / domain.patch)^2 = 16",
    ),
    "one channel": (
        {"model.latent_dim": 1},
        "model.latent_dim = 1: the final LayerNorm makes a constant of one channel, so the latent "
        "could hold nothing; use 3 or more",
    ),
    "LPIPS on small images": (
        {"loss.perceptual.weight": 1.0},
        "needs 16 pixels, but domain.size = 8: set loss.perceptual.weight to 0",
    ),
    "encoder heads": (
        {"model.encoder.num_heads": 5},
        "model.encoder.num_heads = 5 must divide model.encoder.width = 64",
    ),
    "decoder heads": (
        {"model.decoder.num_heads": 5},
        "model.decoder.num_heads = 5 must divide model.decoder.width = 64",
    ),
    "rotary pairs": (
        {"model.encoder.num_heads": 64},
        "model.encoder.width / num_heads = 1 must be even for rotary pairs",
    ),
    "mlp ratio": (
        {"model.encoder.mlp_ratio": 0.02},
        "model.encoder.mlp_ratio = 0.02 leaves no hidden width at model.encoder.width = 64",
    ),
    "in-context start": (
        {"model.encoder.in_context_tokens": 2, "model.encoder.in_context_start": 3},
        "model.encoder.in_context_start = 3 is past the last of 3 blocks, so in_context_tokens = 2",
    ),
    "batch": (
        {"training.batch_size": 65, "cluster.num_workers": 2},
        "training.batch_size = 65 must be divisible by cluster.num_workers x "
        "training.accumulation = 2 x 1",
    ),
    "sigma": (
        {"reconstruction_noise.sigma": 1.5},
        "reconstruction_noise.sigma = 1.5 is a lowest t in 0..1 for the interpolated form",
    ),
    "betas": ({"optim.betas": (0.9, 1.0)}, "optim.betas = (0.9, 1.0) must lie in 0..1, below 1"),
    "plateau": (
        {"optim.schedule": "plateau", "optim.plateau_epochs": (30.0, 20.0)},
        "optim.plateau_epochs = 30.0 20.0 must be increasing and not before optim.warmup_epochs",
    ),
    "flow chunk": (
        {"flow.chunk": 3},
        "flow.chunk = 3 must divide flow.steps = 4 (or be 0)",
    ),
    "flow clamp": ({"flow.t_clamp": 1.5}, "flow.t_clamp = 1.5 bounds 1 - t and must not exceed 1"),
    "interval": (
        {"sampling.cfg_interval": (0.5, 0.5)},
        "sampling.cfg_interval = 0.5 0.5 must satisfy 0 <= low < high <= 1",
    ),
    "guidance": (
        {"sampling.cfg_scale": 0.5},
        "sampling.cfg_scale = 0.5 must be at least 1 (1 = none)",
    ),
}


@pytest.mark.parametrize(("changes", "message"), CHECKS.values(), ids=list(CHECKS))
def test_each_check_names_the_field_its_value_and_the_cure(changes, message):
    with pytest.raises(ValueError) as caught:
        validate(change(BASE, changes))
    assert message in str(caught.value)


@pytest.mark.parametrize("name", POSITIVE)
def test_what_must_be_above_0(name):
    with pytest.raises(ValueError, match=rf"{name} = 0 must be above 0"):
        validate(change(BASE, {name: 0}))


@pytest.mark.parametrize("name", NOT_NEGATIVE)
def test_what_must_not_be_negative(name):
    with pytest.raises(ValueError, match=rf"{name} = -1 must not be negative"):
        validate(change(BASE, {name: -1}))


@pytest.mark.parametrize("name", FRACTIONS)
def test_what_is_a_share(name):
    with pytest.raises(ValueError, match=rf"{name} = 1.5 must lie in 0..1"):
        validate(change(BASE, {name: 1.5}))


def test_what_runs_but_is_hardly_meant_is_warned_of():
    assert warnings_of(BASE, num_steps=610) == []
    two = validate(change(BASE, {"model.latent_dim": 2}))
    (warning,) = warnings_of(two, num_steps=610)
    assert "model.latent_dim = 2" in warning and "use 3 or more" in warning
    (warning,) = warnings_of(BASE, num_steps=100)
    assert f"{0.99**100:.0%} of the random initial ones" in warning
    assert "lower optim.ema_decay = 0.99" in warning
    assert len(warnings_of(two, num_steps=100)) == 2


def test_the_norm_of_one_channel_is_a_constant_and_of_two_one_bit():
    values = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    one, two = torch.nn.LayerNorm(1)(values[:, :1]), torch.nn.LayerNorm(2)(values)
    assert not one.any()
    torch.testing.assert_close(two[:, 0], -two[:, 1])
    assert two[:, 0].abs().median().item() == pytest.approx(1, abs=1e-3)


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        validate(change(BASE, {"flow.steps": 0, "optim.lr": -1.0}))
    assert str(caught.value).count("\n") == 2


@pytest.mark.parametrize("name", names())
def test_every_recipe_is_sound(name):
    config = recipe(name)
    assert validate(config) is config


@dataclass(frozen=True, kw_only=True)
class WordsConfig:
    """A domain that has neither a size nor patches."""

    num_classes: int = 2
    longest: int = 5


def test_another_domain_is_not_asked_for_pixels():
    config = replace(BASE, domain=WordsConfig())
    assert validate(config) is config
    assert "domain.longest" in flatten(config)
    validate(replace(config, domain=WordsConfig(num_classes=0)))
    with pytest.raises(ValueError, match="domain.num_classes = -1 must not be negative"):
        validate(replace(config, domain=WordsConfig(num_classes=-1)))
    with pytest.raises(ValueError, match="domain.num_classes = 0 must be above 0: images"):
        validate(change(BASE, {"domain.num_classes": 0}))
    assert isinstance(config, RunConfig)
