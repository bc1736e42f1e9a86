"""Noise, memory, precision and resumption of training steps, on a card."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from unite.config.recipes import recipe
from unite.config.serialise import replace as change
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.flow import random
from unite.models.kernels.choose import noise_kernels
from unite.sampling.generator import draw
from unite.sampling.precision import autocast
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.fit import Card, choose, settle, trial_step
from unite.training.memory import worker_memory
from unite.training.muon import Muon
from unite.training.parallelize import World, parallelize
from unite.training.requests import Request
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_model, build_trainer

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_a_card_draws_what_a_cpu_draws() -> None:
    assert noise_kernels(CUDA) is not None
    rows = torch.arange(257)
    here = random.stream_keys(3, rows, 6, rows * 7)
    there = random.stream_keys(3, rows.to(CUDA), 6, rows.to(CUDA) * 7)
    assert torch.equal(there.cpu(), here)
    assert torch.equal(random.uniform(there, (33,)).cpu(), random.uniform(here, (33,)))
    found, expected = random.normal(there, (7, 5)).cpu(), random.normal(here, (7, 5))
    torch.testing.assert_close(found, expected, rtol=0, atol=8 * 6e-8 * 7)


@pytest.mark.parametrize("recompute", [False, True])
def test_a_step_needs_no_more_than_its_estimate(recompute: bool) -> None:
    """UNITE-B, compiled, in micro-batches of 8; LPIPS is left out of both."""
    changes = {
        "training.batch_size": 8,
        "training.gradient_checkpointing": recompute,
        "flow.chunk": 2,
        "loss.perceptual.weight": 0.0,
    }
    config = change(recipe("unite-b"), changes)
    model = parallelize(build_model(config), config.training, CUDA)
    trial_step(config, model, None, CUDA)
    model.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    trial_step(config, model, None, CUDA)
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    assert torch.cuda.max_memory_allocated() - weights <= 1.05 * worker_memory(config).step


def test_the_rule_leaves_a_step_that_fits_this_card() -> None:
    card = Card.of(CUDA)
    found = choose(recipe("unite-b"), card)
    assert found.needed.device <= card.usable
    config = recipe("smoke")
    model = parallelize(build_model(config), config.training, CUDA)
    assert settle(config, model, None, CUDA) == config


def test_samples_in_bfloat16_are_near_those_in_float32() -> None:
    model = build_model(recipe("smoke")).to(CUDA)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    config = replace(recipe("smoke").sampling, solver="heun", cfg_scale=2.0)
    drawn = []
    for precision in ("float32", "bfloat16"):
        with autocast(precision, CUDA):
            samples = draw(model, torch.arange(10), config, seeds_B=torch.arange(10))
        drawn.append(samples.reconstruction.float())
    assert not torch.equal(*drawn)
    assert (drawn[0] - drawn[1]).square().mean().sqrt() < 0.05 * drawn[0].std()


def test_muon_on_a_card_is_that_on_a_cpu() -> None:
    found = []
    for device in (CPU, CUDA):
        generator = torch.Generator().manual_seed(0)
        values = [torch.randn(2, 64, 128, generator=generator) for _ in range(6)]
        given = [torch.nn.Parameter(value[0].to(device)) for value in values]
        for parameter, value in zip(given, values, strict=True):
            parameter.grad = value[1].to(device)
        Muon(given, lr=0.02).step()
        found.append(torch.stack([p.detach().cpu() for p in given]))
    torch.testing.assert_close(*found, rtol=0, atol=0.02 * 8 * torch.finfo(torch.bfloat16).eps)


def test_a_resumed_run_goes_on_to_the_bit(tmp_path) -> None:
    prepare_digits(Store.open(tmp_path / "data" / "digits"))
    changes = {"storage": str(tmp_path), "training.precision": "bfloat16"}
    changes |= {"training.epochs": 8 * 32 / 1500, "checkpoint.every_images": 128}
    weights = []
    for name, stop in (("whole", 10_000), ("parts", 128)):
        config = change(recipe("smoke"), {**changes, "name": name})
        for last in dict.fromkeys((stop, 10_000)):
            run = open_run(config)
            begin(run)
            job, world = Job.of(run), World(device=CUDA)
            trainer = build_trainer(job, world, Tracker(), local_reader)
            trainer.requests = lambda made=trainer, last=last: (
                Request.STOP if made.images + 32 >= last else Request.NONE
            )
            trainer.run()
            trainer.stream.close()
        weights.append(trainer.model.state_dict())
    for key, value in weights[0].items():
        assert torch.equal(weights[1][key], value), key
