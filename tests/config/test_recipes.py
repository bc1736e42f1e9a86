"""The variants hold exactly what METHOD lists as the paper's text and as the released settings."""

from __future__ import annotations

import pytest

from unite.config.recipes import DECISIONS, recipe
from unite.config.serialise import diff, flatten

# METHOD 3: field -> (paper, released).
DIFFERENCES = {
    "flow.steps": (14, 3),
    "flow.timesteps": ("uniform", "logit_normal"),
    "flow.loss_space": ("data", "velocity"),
    "loss.perceptual.input_range": ("-1..1", "0..1"),
    "optim.schedule": ("cosine", "plateau"),
    "optim.lr_min": (1e-6, 0.0),
    "training.epochs": (240.0, 600.0),
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
    "optim.warmup_epochs": 20.0,
    "optim.plateau_epochs": (30.0, 50.0),
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


@pytest.mark.parametrize("base", ["unite-b", "unite-l", "unite-xl"])
def test_paper_and_released_differ_in_exactly_these_fields(base):
    rows = diff(recipe(f"{base}-paper"), recipe(f"{base}-released"))
    found = {name: (paper, released) for name, paper, released in rows if name != "recipe"}
    assert found == DIFFERENCES


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_what_both_share_is_the_methods(variant):
    fields = flatten(recipe(f"unite-b-{variant}"))
    assert {name: fields[name] for name in COMMON} == COMMON


def test_the_plain_name_is_the_papers_variant():
    assert diff(recipe("unite-b"), recipe("unite-b-paper")) == [
        ("recipe", "unite-b", "unite-b-paper")
    ]


def test_where_the_paper_contradicts_itself_the_decision_is_written_down():
    fields = flatten(recipe("unite-b-paper"))
    for name, why in DECISIONS.items():
        assert why.startswith(str(fields[name]))
        assert "METHOD" in why
