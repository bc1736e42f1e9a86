"""The training step: chunks, accumulation and stop-gradient give the gradients of one graph."""

from __future__ import annotations

import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.training.setup import build_model
from unite.training.step import Address, TrainingStep

BATCH = 6


def make(**changes: object) -> TrainingStep:
    config = replace(recipe("smoke"), {"flow.steps": 4, **changes})
    model = build_model(config).double()
    torch.manual_seed(1)
    with torch.no_grad():  # leave the zero-initialised start, where many gradients vanish
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return TrainingStep(model, config, None)


def inputs(rows: range = range(BATCH)) -> tuple[torch.Tensor, torch.Tensor, Address]:
    index = torch.tensor(list(rows))
    images = torch.rand(
        64, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(3)
    )
    address = Address(seed=7, epochs_B=torch.full_like(index, 2), rows_B=index)
    return images[index], index % 10, address


def gradients(step: TrainingStep) -> dict[str, torch.Tensor]:
    return {n: p.grad.clone() for n, p in step.model.named_parameters() if p.grad is not None}


def assert_close(left: dict, right: dict) -> None:
    assert left.keys() == right.keys()
    for name in left:
        torch.testing.assert_close(left[name], right[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("stop_gradient", [True, False])
@pytest.mark.parametrize("sharing", ["shared", "separate"])
@pytest.mark.parametrize("chunk", [0, 1, 2])
def test_backward_equals_one_backward_of_the_whole_graph(stop_gradient, sharing, chunk):
    changes = {
        "flow.stop_gradient": stop_gradient,
        "model.sharing": sharing,
        "flow.chunk": chunk,
        "flow.reduction": "sum",
    }
    step, whole = make(**changes), make(**changes)
    losses = step.backward(*inputs(), flow_weight=0.3)
    terms = whole.losses(*inputs(), flow_weight=0.3)
    terms["total"].backward()
    torch.testing.assert_close(
        losses.terms["loss/total"].double(), terms["total"].detach().double(), rtol=1e-5, atol=0
    )
    assert_close(gradients(step), gradients(whole))


def test_stop_gradient_decides_whether_the_flow_loss_shapes_the_latent():
    frozen, free = make(), make(**{"flow.stop_gradient": False})
    frozen.backward(*inputs(), flow_weight=1.0)
    free.backward(*inputs(), flow_weight=1.0)
    weight = "embedder.projection.weight"
    assert not torch.allclose(gradients(frozen)[weight], gradients(free)[weight])


def test_accumulation_gives_the_gradient_of_the_whole_batch():
    step, parts = make(), make()
    step.backward(*inputs(), flow_weight=1.0)
    for rows in (range(3), range(3, 6)):
        parts.backward(*inputs(rows), flow_weight=1.0, scale=0.5)
    assert_close(gradients(step), gradients(parts))


def test_randomness_depends_on_the_row_alone():
    step = make()
    alone = step.tokenize(inputs(range(2, 3))[0], inputs(range(2, 3))[2])
    together = step.tokenize(inputs()[0], inputs()[2])
    torch.testing.assert_close(alone[0], together[2], rtol=1e-5, atol=1e-6)


def test_the_sum_grows_with_the_number_of_noisings_and_the_mean_does_not():
    totals = {}
    for reduction in ("sum", "mean"):
        for steps in (1, 16):
            step = make(**{"flow.steps": steps, "flow.reduction": reduction})
            terms = step.losses(*inputs(), flow_weight=1.0)
            totals[reduction, steps] = float(terms["total"] - terms["reconstruction"])
    assert totals["sum", 16] > 8 * totals["sum", 1]
    assert totals["mean", 16] < 2 * totals["mean", 1]


@pytest.mark.parametrize(
    ("form", "sigma", "clean"),
    [
        ("interpolated", 1.0, True),
        ("interpolated", 0.0, False),
        ("additive", 0.0, True),
        ("additive", 0.7, False),
    ],
)
def test_reconstruction_noise_has_its_two_forms(form, sigma, clean):
    changes = {
        "reconstruction_noise.form": form,
        "reconstruction_noise.sigma": sigma,
        "reconstruction_noise.probability": 1.0,
    }
    step = make(**changes)
    latent = torch.randn(BATCH, 16, 4, dtype=torch.float64)
    noised = step.decoder_noise(latent, inputs()[2])
    assert torch.allclose(noised, latent) is clean


def test_about_the_configured_share_of_latents_is_noised():
    step = make()
    rows = torch.arange(2000)
    address = Address(seed=0, epochs_B=torch.zeros_like(rows), rows_B=rows)
    latent = torch.ones(2000, 16, 4)
    changed = (step.decoder_noise(latent, address) != latent).flatten(1).any(1)
    assert 0.45 < changed.float().mean() < 0.55


def test_bfloat16_and_recompute_change_nothing_but_rounding():
    torch.manual_seed(0)
    plain = make()
    recompute = make(**{"training.gradient_checkpointing": True})
    for encoder in (recompute.model.tokenizer,):
        encoder.checkpoint_blocks = True
    plain.backward(*inputs(), flow_weight=1.0)
    recompute.backward(*inputs(), flow_weight=1.0)
    assert_close(gradients(plain), gradients(recompute))
