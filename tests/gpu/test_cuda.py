"""What only a CUDA device shows; without one these tests skip."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from unite.checkpoints.store import CheckpointWriter, folder_of, read_checkpoint
from unite.config.recipes import recipe
from unite.config.schema import CheckpointConfig, RunConfig
from unite.config.serialise import replace as change
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.flops import measure_matmul_rate
from unite.training.loop import Trainer
from unite.training.parallelize import World, parallelize
from unite.training.readout import NonFiniteError
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_model, build_trainer
from unite.training.step import Address, TrainingStep

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.fixture
def config(tmp_path) -> RunConfig:
    prepare_digits(Store.open(tmp_path / "data" / "digits"))
    changes = {
        "storage": str(tmp_path),
        "training.epochs": 8 * 32 / 1500,
        "training.log_every_steps": 4,
        "training.graphs": "off",
        "checkpoint.every_images": 1_000_000,
        "evaluation.every_images": 1_000_000,
    }
    return change(recipe("smoke"), changes)


@pytest.fixture
def trainer(config):
    run = open_run(config)
    begin(run)
    made = build_trainer(Job.of(run), World(device=CUDA), Tracker(), local_reader)
    yield made
    made.stream.close()


def test_a_step_reads_the_numbers_of_the_one_before(trainer: Trainer):
    """Between log points nothing waits for the device; at one the step knows its own numbers."""
    seen = []
    for _ in range(4):
        values, request = trainer.train_step(next(trainer.stream))
        trainer.images += trainer.plan.batch_size
        seen.append(values.get("loss/total"))
        assert not request
    assert seen[0] is None and all(math.isfinite(value) for value in seen[1:])
    assert len(set(seen)) == 4, "each answer is of another step"


def test_no_step_between_log_points_waits_for_the_device(trainer: Trainer, without_waits):
    for _ in range(2):  # what a first step makes may wait
        trainer.train_step(next(trainer.stream))
        trainer.images += trainer.plan.batch_size
    batch = next(trainer.stream)
    with without_waits():
        trainer.train_step(batch)


def test_a_step_that_is_not_finite_is_named_though_it_is_read_later(trainer: Trainer):
    for _ in range(2):
        trainer.train_step(next(trainer.stream))
        trainer.images += trainer.plan.batch_size
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    good = trainer.objective.step.reconstruction
    trainer.objective.step.reconstruction = lambda *_: {
        "l1": torch.tensor(math.nan, device=CUDA, requires_grad=True)
    }
    trainer.train_step(next(trainer.stream))
    trainer.images += trainer.plan.batch_size
    for name, value in trainer.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    trainer.objective.step.reconstruction = good
    with pytest.raises(NonFiniteError, match=r"step 2 .*loss/l1 nan"):
        trainer.train_step(next(trainer.stream))


def test_a_run_trains_evaluates_and_saves(trainer: Trainer):
    summary = trainer.run()
    assert summary["images"] == 256 and summary["metrics"]["eval/psnr"] > 0
    assert summary["metrics"]["memory/device_peak_gib"] > 0


def test_a_snapshot_holds_what_was_there_when_it_was_taken(tmp_path):
    writer = CheckpointWriter(run=Store.open(tmp_path), config=CheckpointConfig())
    weights = torch.full((2048, 2048), 1.0, device=CUDA)
    torch.cuda._sleep(50_000_000)  # the copy is queued behind work, as after a training step
    writer.save({"model": {"w": weights}, "ema": {}, "optimizer": {}}, {"images": 1, "metrics": {}})
    writer.settle()
    weights.mul_(7.0)  # the next step
    writer.close()
    stored = read_checkpoint(folder_of(Store.open(tmp_path), 1))
    assert torch.equal(stored.parts["model"]["w"], torch.ones(2048, 2048))


def gradients(settings: RunConfig) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss and gradients of a step on fixed images and weights."""
    model = build_model(settings)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model = parallelize(model, settings.training, CUDA)
    images = torch.rand(8, 1, 8, 8, generator=torch.Generator().manual_seed(1)).to(CUDA)
    zeros = torch.zeros(8, dtype=torch.int64, device=CUDA)
    address = Address(seed=0, epochs_B=zeros, rows_B=torch.arange(8, device=CUDA))
    losses = TrainingStep(model, settings, None).backward(images, zeros, address, flow_weight=1.0)
    found = {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}
    return float(losses.terms["loss/total"]), found


@pytest.mark.parametrize("recompute", [False, True])
def test_bfloat16_compiled_is_finite_and_close_to_float32(config, recompute):
    low = SimpleNamespace(precision="bfloat16", compile=True, gradient_checkpointing=recompute)
    full_loss, full = gradients(config)
    low_loss, found = gradients(replace(config, training=replace(config.training, **vars(low))))
    assert low_loss == pytest.approx(full_loss, rel=0.02)
    assert found.keys() == full.keys()
    for name, gradient in found.items():
        assert torch.isfinite(gradient).all(), name
    pairs = [torch.cat([g.flatten() for g in each.values()]) for each in (full, found)]
    assert torch.nn.functional.cosine_similarity(*pairs, dim=0) > 0.99


def test_the_matmul_rate_is_a_rate_of_this_device():
    rates = [measure_matmul_rate(CUDA) for _ in range(2)]
    assert rates[0] == pytest.approx(rates[1], rel=0.5)
