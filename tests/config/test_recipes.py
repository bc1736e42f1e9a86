"""The variants hold what METHOD lists of the paper, the released code and the checkpoints."""

from __future__ import annotations

import pytest

from unite.config.domains import ImagesConfig
from unite.config.recipes import (
    BASES,
    ENCODER_SIZES,
    Base,
    encoder,
    names,
    recipe,
    smoke,
    variant_of,
)
from unite.config.serialise import diff, flatten
from unite.config.variants import PAPER, VARIANTS

# METHOD 3: field -> (paper, released, checkpoints).
DIFFERENCES = {
    "model.init": ("xavier", "released", "released"),
    "flow.steps": (14, 3, 14),
    "flow.timesteps": ("uniform", "logit_normal", "logit_normal"),
    "flow.loss_space": ("data", "velocity", "velocity"),
    "loss.perceptual.input_range": ("-1..1", "0..1", "0..1"),
    "optim.schedule": ("cosine", "plateau", "plateau"),
    "optim.lr_min": (1e-6, 0.0, 0.0),
    "optim.warmup_epochs": (20.0, 40.0, 40.0),
    "optim.plateau_epochs": ((30.0, 50.0), (60.0, 100.0), (60.0, 100.0)),
    "optim.muon_eps": (1e-7, 1e-6, 1e-6),
    "training.epochs": (240.0, 600.0, 240.0),
}
COMMON = {
    "flow.weight": 1.0,
    "flow.reduction": "sum",
    "flow.warmup_fraction": 0.0,
    "flow.stop_gradient": True,
    "flow.shift": 0.5,
    "flow.t_clamp": 0.05,
    "flow.class_dropout": 0.1,
    "reconstruction_noise.form": "interpolated",
    "reconstruction_noise.sigma": 0.7,
    "reconstruction_noise.probability": 0.5,
    "loss.reconstruction_weight": 1.0,
    "loss.perceptual.weight": 1.0,
    "optim.lr": 1e-4,
    "optim.lr_batch_reference": 384,
    "optim.muon": True,
    "optim.muon_momentum": 0.95,
    "optim.betas": (0.9, 0.999),
    "optim.eps": 1e-6,
    "optim.weight_decay": 0.0,
    "optim.grad_clip": 3.0,
    "optim.ema_decay": 0.9978,
    "training.batch_size": 1024,
    "training.precision": "bfloat16",
    "model.num_registers": 256,
    "model.latent_dim": 32,
    "model.encoder.in_context_tokens": 32,
    "model.encoder.in_context_start": 4,
    "model.encoder.tokenize_t_max": 0.01,
    "cluster.use_gpu": True,
}


IMAGENET = ("unite-b", "unite-l", "unite-xl")
# The L checkpoint is of epoch 120; of XL none is published, and Table 8 says 240.
CHECKPOINT_EPOCHS = {"unite-b": 240.0, "unite-l": 120.0, "unite-xl": 240.0}


@pytest.mark.parametrize("base", IMAGENET)
def test_variants_differ_in_exactly_these_fields(base):
    configs = [flatten(recipe(f"{base}-{v}")) for v in ("paper", "released", "checkpoints")]
    found = {
        name: values
        for name in configs[0]
        if len(set(values := tuple(fields[name] for fields in configs))) > 1
    }
    del found["recipe"]
    epochs = (240.0, 600.0, CHECKPOINT_EPOCHS[base])
    assert found == {**DIFFERENCES, "training.epochs": epochs}


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_all_share_is_the_methods(variant):
    fields = flatten(recipe(f"unite-b-{variant}"))
    assert {name: fields[name] for name in COMMON} == COMMON


@pytest.mark.parametrize("base", IMAGENET)
def test_the_plain_name_is_that_of_the_published_checkpoints(base):
    assert variant_of(base) == "checkpoints"
    assert diff(recipe(base), recipe(f"{base}-checkpoints")) == [
        ("recipe", base, f"{base}-checkpoints")
    ]


def test_a_laptop_recipe_keeps_its_length_and_learning_rate_in_every_variant():
    plain = flatten(recipe("digits"))
    for variant in VARIANTS:
        fields = flatten(recipe(f"digits-{variant}"))
        kept = [name for name in fields if name.startswith("optim.") or name == "training.epochs"]
        for name in set(kept) - {"optim.schedule", "optim.muon_eps"}:
            assert fields[name] == plain[name], (variant, name)
        assert fields["flow.reduction"] == "sum"


def test_recipes_of_images_but_ours_have_every_variant_and_those_of_atoms_none():
    ours = {"smoke", "digits-blurred", "cifar10-gpu"}
    images = {name for name in BASES if isinstance(recipe(name).domain, ImagesConfig)}
    wanted = {f"{name}-{variant}" for name in images - ours for variant in VARIANTS}
    assert wanted == set(names()) - set(BASES)


def test_cifar10_on_a_gpu_is_the_same_training_at_another_batch():
    plain, gpu = (flatten(recipe(name)) for name in ("cifar10", "cifar10-gpu"))
    assert {name: gpu[name] for name in gpu if gpu[name] != plain[name]} == {
        "recipe": "cifar10-gpu",
        "training.precision": "bfloat16",
        "training.compile": True,
        "training.batch_size": 512,
        "optim.lr": 2e-3,
        "cluster.use_gpu": True,
    }


def test_a_base_has_the_variants_that_its_sources_have(monkeypatch):
    monkeypatch.setitem(BASES, "atoms", Base(smoke, "a table", "paper", ("paper",)))
    assert recipe("atoms-paper").flow.steps == recipe("atoms").flow.steps == PAPER["flow.steps"]
    assert "atoms-released" not in names()
    with pytest.raises(ValueError, match="unknown recipe 'atoms-released'; did you mean .*atoms-p"):
        recipe("atoms-released")
    with pytest.raises(ValueError, match="unknown recipe 'smoke-paper'"):
        recipe("smoke-paper")


@pytest.mark.parametrize("size", ENCODER_SIZES)
def test_every_size_of_the_encoder_can_be_built(size):
    depth, width, heads = ENCODER_SIZES[size]
    config = encoder(size)
    assert (config.depth, config.width, config.num_heads) == (depth, width, heads)
