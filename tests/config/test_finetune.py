"""Config of the decoder's fine-tuning: its form, its recipes and what it refuses."""

from __future__ import annotations

import pytest

from unite.config.finetune import (
    DiscriminatorConfig,
    FinetuneRunConfig,
    as_trained,
    extended,
    finetune_recipe,
    trunk_taps,
)
from unite.config.finetune_checks import (
    finetune_warnings,
    require_finetune_effect,
    validate_finetune,
)
from unite.config.recipes import recipe
from unite.config.serialise import digest, flatten, from_dict, replace, to_dict


def small(**changes) -> FinetuneRunConfig:
    config = finetune_recipe("small", recipe("digits"))
    return replace(config, {name.replace("__", "."): value for name, value in changes.items()})


def test_a_fine_tuned_config_holds_the_whole_of_its_parents():
    base = recipe("digits")
    stored = to_dict(extended(base))
    assert {name: stored[name] for name in to_dict(base)} == to_dict(base)
    assert from_dict(FinetuneRunConfig, stored) == extended(base)


def test_the_loop_trains_by_the_fine_tunings_length_and_optimiser():
    trained = as_trained(small())
    assert (trained.training.epochs, trained.training.batch_size) == (19.0, 64)
    assert (trained.optim.lr, trained.optim.muon, trained.optim.grad_clip) == (5e-4, False, 0.0)
    assert trained.training.seed == small().finetune.seed
    base = recipe("digits")
    assert as_trained(base) is base


def test_every_field_that_computes_something_changes_the_digest():
    for name, value in flatten(small()).items():
        section = name.partition(".")[0]
        if section not in ("parent", "finetune", "adversarial", "discriminator"):
            continue
        other = (
            not value
            if isinstance(value, bool)
            else value + 1
            if isinstance(value, int | float)
            else "x"
        )
        changed = (9,) if isinstance(value, tuple) else other
        assert digest(replace(small(), {name: changed})) != digest(small()), name


def test_defaults_are_those_of_the_sources():
    config = finetune_recipe("gan", recipe("unite-b"))
    assert config.finetune.epochs == 16 and config.finetune.ema_decay == 0.9978
    assert (config.adversarial.weight, config.adversarial.max_weight) == (0.75, 1e4)
    rae = finetune_recipe("rae", recipe("unite-b")).adversarial
    assert (rae.discriminator_start, rae.adversarial_start) == (6.0, 8.0)
    with pytest.raises(ValueError, match="unknown fine-tuning recipe 'rea'; recipes: gan, rae"):
        finetune_recipe("rea", recipe("unite-b"))


@pytest.mark.parametrize(
    ("depth", "taps"), [(12, (3, 7, 11)), (3, (0, 1, 2)), (4, (0, 1, 3)), (2, (0, 1)), (1, (0,))]
)
def test_empty_taps_are_the_last_of_each_third(depth, taps):
    assert trunk_taps(DiscriminatorConfig(), depth) == taps


def test_given_taps_are_ordered():
    assert trunk_taps(DiscriminatorConfig(taps=(5, 1)), 12) == (1, 5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"adversarial__weight": -0.1}, r"adversarial.weight = -0.1 must not be negative"),
        ({"adversarial__max_weight": 0.0}, r"adversarial.max_weight = 0.0 must be above 0"),
        ({"adversarial__lecam": -1.0}, r"adversarial.lecam = -1.0 must not be negative"),
        ({"adversarial__discriminator_start": 3.0}, r"adversarial_start = 2.0 is before"),
        ({"adversarial__adversarial_start": 19.0}, r"past the end, finetune.epochs = 19.0"),
        ({"discriminator__taps": (3,)}, r"taps = \(3,\): 3 is no index .* has 3, 0..2"),
        ({"discriminator__taps": (-1,)}, r"-1 is no index"),
        ({"discriminator__augment_probability": 1.5}, r"must lie in 0..1"),
        ({"discriminator__augment_shift": 1.0}, r"augment_shift = 1.0 must be at least 0"),
        ({"discriminator__trunk_lr_scale": -1.0}, r"trunk frozen trains the heads alone"),
        ({"finetune__batch_size": 63, "finetune__accumulation": 2}, r"divisible .* = 1 x 2"),
        ({"finetune__epochs": 0.0}, r"finetune.epochs = 0.0 must be above 0"),
        ({"finetune__lr_min": -1.0}, r"finetune.lr_min = -1.0 must not be negative"),
        ({"finetune__betas": (0.9, 1.0)}, r"finetune.betas"),
        ({"finetune__ema_decay": 1.1}, r"finetune.ema_decay"),
        ({"finetune__lr": float("nan")}, r"finetune.lr = nan must be finite"),
    ],
)
def test_bad_settings_are_refused_by_field_value_and_fix(changes, words):
    with pytest.raises(ValueError, match=words):
        validate_finetune(small(**changes))


def test_all_problems_are_told_at_once():
    with pytest.raises(ValueError) as caught:
        validate_finetune(small(adversarial__weight=-1.0, discriminator__taps=(9,)))
    assert str(caught.value).count("\n") == 2


def test_sound_settings_pass_whatever_the_parents_batch_was():
    config = small(cluster__num_workers=4, training__batch_size=63)
    assert validate_finetune(config) is config


def test_the_control_needs_no_adversary():
    assert validate_finetune(small(adversarial__weight=0.0, adversarial__adversarial_start=40.0))


def test_warnings():
    assert finetune_warnings(small(), num_steps=450) == []
    frozen = small(discriminator__trunk="frozen", discriminator__init="random")
    assert "nothing has trained" in finetune_warnings(frozen, num_steps=450)[0]
    large = replace(finetune_recipe("gan", recipe("cifar10")), {"loss.perceptual.weight": 0.0})
    assert "L1 and an adversary alone" in finetune_warnings(large, num_steps=450)[0]
    assert "48 steps only" in finetune_warnings(small(), num_steps=48)[0]


@pytest.mark.parametrize(
    ("changes", "flag"),
    [
        ({"adversarial__weight": 0.0, "discriminator__trunk": "frozen"}, "discriminator.trunk"),
        ({"adversarial__weight": 0.0, "adversarial__loss": "vanilla"}, "adversarial.loss"),
        ({"adversarial__mode": "fixed", "adversarial__max_weight": 5.0}, "adversarial.max_weight"),
        (
            {"discriminator__trunk": "frozen", "discriminator__trunk_lr_scale": 0.1},
            "discriminator.trunk_lr_scale",
        ),
        (
            {"discriminator__augment_probability": 0.0, "discriminator__augment_shift": 0.2},
            "discriminator.augment_shift",
        ),
        (
            {"loss__perceptual__weight": 0.0, "loss__perceptual__input_range": "0..1"},
            "loss.perceptual.input_range",
        ),
        (
            {"reconstruction_noise__probability": 0.0, "reconstruction_noise__sigma": 0.3},
            "reconstruction_noise.sigma",
        ),
        ({"tracking__enabled": False, "tracking__experiment": "b"}, "tracking.experiment"),
    ],
)
def test_options_without_effect_are_refused(changes, flag):
    with pytest.raises(ValueError, match=rf"--{flag.replace('_', '-')} needs"):
        require_finetune_effect(small(**changes), small())


def test_what_the_recipe_says_is_never_refused():
    control = small(adversarial__weight=0.0)
    require_finetune_effect(control, control)
