"""What a run or a sweep will cost."""

from __future__ import annotations

import pytest
import torch

from unite.ablation import cost as costs
from unite.ablation.cost import evaluations, measure_rate, run_cost, sweep_lines
from unite.ablation.options import SweepOptions
from unite.ablation.trials import expand
from unite.checkpoints.store import CheckpointWriter, folder_of
from unite.config.axes import find_axis
from unite.config.finetune import finetune_recipe
from unite.config.recipes import recipe
from unite.config.schema import CheckpointConfig, RunConfig, SamplingConfig
from unite.config.serialise import replace
from unite.storage import Store
from unite.training.ema import Ema
from unite.training.flops import training_flops
from unite.training.muon import build_optimizers
from unite.training.setup import build_model


def test_the_papers_run_costs_what_counting_says():
    cost = run_cost(replace(recipe("unite-b"), {"training.epochs": 120.0}))
    assert cost.images == pytest.approx(120 * 1_281_167, rel=1e-4)
    assert cost.training_flops == pytest.approx(5.4e20, rel=0.02)  # METHOD 3: 120 x 1.28M x 3.5e12
    assert cost.parameters == pytest.approx(217.6e6, rel=1e-3)


@pytest.mark.parametrize("muon", [True, False])
def test_storage_is_that_of_real_checkpoints(tmp_path, muon):
    config = replace(recipe("smoke"), {"optim.muon": muon, "checkpoint.keep_last": 1})
    config = replace(config, {"checkpoint.keep_best": 0})
    model = build_model(config)
    optimizers = build_optimizers(model, config.optim)
    for parameter in model.parameters():
        parameter.grad = parameter.detach().clone() if parameter.requires_grad else None
    optimizers.step()
    run = Store.open(tmp_path)
    writer = CheckpointWriter(run=run, config=CheckpointConfig(asynchronous=False))
    parts = {
        "model": model.state_dict(),
        "ema": Ema(model, 0.9).state_tensors(),
        "optimizer": optimizers.state_tensors(),
    }
    writer.save(parts, {"images": 1, "metrics": {}})
    folder = folder_of(run, 1)
    real = sum(folder.size(name) for name in folder.list())
    # Kept is one; one more may be in flight.
    assert run_cost(config).storage_bytes / 2 == pytest.approx(real, rel=0.05)


def test_a_sweep_is_listed_with_what_is_left(tmp_path):
    sweep = expand(
        find_axis("flow_ratio"), SweepOptions(scale="laptop", storage=str(tmp_path), seeds=1)
    )
    lines = sweep_lines(sweep, rate=2e10, slots=2)
    assert len(lines) == 1 + 7 + 2
    assert "F = 14, separate, seed 0" in "\n".join(lines)
    assert "7 of 7 runs to do" in lines[-2]
    assert "2 at once" in lines[-1] and "start-up" in lines[-1]


def test_samples_cost_the_evaluations_of_their_solver():
    assert evaluations(SamplingConfig(solver="heun", num_steps=25)) == 50
    assert evaluations(SamplingConfig(solver="euler", num_steps=4)) == 4
    assert evaluations(SamplingConfig()) == 108


def test_a_rate_is_measured_on_real_steps():
    assert measure_rate(recipe("smoke"), threads=1) > 0


def test_a_fine_tuning_is_timed_by_joint_steps_and_counted_by_their_flops(monkeypatch):
    """Its own FLOPs over the time of a joint step would be no rate of anything."""
    timed = []
    monkeypatch.setattr(
        "unite.ablation.cost._timed_steps", lambda config, device: timed.append(config) or 1.0
    )
    tuned = finetune_recipe("small", recipe("smoke"))
    assert measure_rate(tuned) == 1.0
    (config,) = timed
    assert type(config) is RunConfig and config.training.batch_size == tuned.finetune.batch_size
    assert training_flops(config).total == training_flops(recipe("smoke")).total
    assert training_flops(tuned).total != training_flops(config).total


def test_a_gpu_that_is_absent_cannot_be_measured(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    config = replace(recipe("cifar10"), {"cluster.use_gpu": True})
    with pytest.raises(ValueError, match="trains on GPUs and there is none here$"):
        measure_rate(config)


def test_a_step_that_takes_minutes_is_not_tried(monkeypatch):
    monkeypatch.setattr("unite.ablation.cost.measure_matmul_rate", lambda device, dtype: 1e11)
    config = replace(recipe("unite-b"), {"cluster.use_gpu": False})
    with pytest.raises(ValueError, match="a step of 32 images .* takes about .* here$"):
        measure_rate(config)


def test_the_first_step_of_a_gpu_is_over_before_time_is_taken(monkeypatch):
    done = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda *device: done.append("wait"))
    monkeypatch.setattr(costs, "measure_matmul_rate", lambda device, dtype: 1e15)
    monkeypatch.setattr(costs, "_step", lambda *given: lambda: done.append("step"))
    monkeypatch.setattr(costs.time, "perf_counter", lambda: done.append("clock") or len(done))
    assert measure_rate(replace(recipe("smoke"), {"cluster.use_gpu": True})) > 0
    timed = ["clock", *costs.MEASURED_STEPS * ["step"], "wait", "clock"]
    assert done == ["step", "wait", *timed]
