"""Cost of a run or a sweep before it is started: FLOPs, time, storage.

FLOPs are counted from the config. Time needs a rate: given, or measured by timing real training
steps on this machine.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch

from unite.ablation.expect import expect_sweep, known_rate
from unite.ablation.matching import trained_parameters
from unite.ablation.results import is_finished
from unite.ablation.trials import Sweep, Trial, TrialGroup
from unite.config.finetune import as_trained
from unite.config.recipes import training_size
from unite.config.schema import RunConfig, SamplingConfig
from unite.domains import build_domain
from unite.flow.solvers import fixed_evaluations
from unite.paper import DOPRI5_EVALUATIONS
from unite.runs import is_builtin
from unite.tables import PIPE_WIDTH, table_lines
from unite.training.flops import (
    compute_dtype,
    measure_matmul_rate,
    sampling_flops,
    training_flops,
)
from unite.training.loop import Plan
from unite.training.memory import checkpoint_bytes
from unite.training.muon import build_optimizers
from unite.training.parallelize import parallelize
from unite.training.setup import build_model, open_split
from unite.training.step import Address, TrainingStep
from unite.words import count, duration

MEASURED_IMAGES = 32
MEASURED_STEPS = 3
LONGEST_MEASUREMENT_S = 60.0
TYPICAL_SHARE = 0.25
"""Share of the matmul rate that a step reaches; only to refuse hopeless measurements."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of one training run and its measurements."""

    images: int
    """Training images seen."""
    steps: int
    """Optimiser steps."""
    parameters: int
    """Trained parameters."""
    training_flops: float
    """FLOPs of training, recompute included."""
    sampling_flops: float
    """FLOPs of the measured samples; 0 for a run alone."""
    storage_bytes: int
    """Bytes of the kept checkpoints."""

    @property
    def flops(self) -> float:
        """FLOPs of training and sampling."""
        return self.training_flops + self.sampling_flops


def run_cost(config: RunConfig, trials: tuple[Trial, ...] = ()) -> Cost:
    """Cost of a run and of measuring `trials` on it."""
    plan = Plan.of(config, training_images(config))
    return Cost(
        images=plan.total_images,
        steps=plan.total_images // plan.batch_size,
        parameters=trained_parameters(config.domain, config.model),
        training_flops=training_flops(config).total * plan.total_images,
        sampling_flops=sum(_sampling_flops(config, trial) for trial in trials),
        storage_bytes=kept_checkpoints(config) * checkpoint_bytes(config),
    )


def training_images(config: RunConfig) -> int:
    """Size of the training set: counted where it is at hand, else that of the recipe's set."""
    if config.data.train and not is_builtin(config.data.train):
        return open_split(config, "train").num_rows
    return training_size(config.recipe)


def evaluations(sampling: SamplingConfig) -> int:
    """Velocity evaluations per sample."""
    return fixed_evaluations(sampling.solver, sampling.num_steps) or DOPRI5_EVALUATIONS


def sweep_lines(sweep: Sweep, *, rate: float, slots: int) -> list[str]:
    """A sweep as text: each trial, what is finished, and the rest in FLOPs, time and bytes.

    `rate`: FLOP/s of one trial; 0 takes that of earlier sweeps on this machine.
    """
    headings, rows = ("trial", "images", "parameters", "PFLOP", "training", "state"), []
    rate = rate or known_rate(sweep)
    left: list[TrialGroup] = []
    training = flops = storage = 0.0
    for work in sweep.works:
        cost, finished = run_cost(work.config, work.trials), is_finished(work)
        storage += cost.storage_bytes
        if not finished:
            left.append(work)
            training, flops = training + cost.training_flops, flops + cost.flops
        seconds = duration(cost.training_flops / rate) if rate else "?"
        state = "finished" if finished else "to do"
        figures = (f"{cost.images:,}", f"{cost.parameters:,}", f"{cost.flops / 1e15:.3g}", seconds)
        label = sweep.label(work.trials[0])
        more = f" (and {count(len(work.trials) - 1, 'more value')})" if len(work.trials) > 1 else ""
        rows.append((label + more, *figures, state))
    lines = table_lines(headings, rows, PIPE_WIDTH, right=range(1, len(headings) - 1))
    lines.append(
        f"{len(left)} of {count(len(sweep.works), 'run')} to do: {flops:.3g} FLOP, "
        f"{storage / 1e9:.3g} GB of checkpoints in all"
    )
    if left and not rate:
        lines.append("time: give --rate, the FLOP/s of one trial's devices together")
    elif left:
        expected = expect_sweep(sweep, left, training, rate=rate, slots=slots)
        lines.append(f"{expected}, {slots} at once")
    return lines


def measure_rate(config: RunConfig, *, threads: int = 0) -> float:
    """FLOP/s of real training steps of `config` on this machine (GPU if the config uses one).

    `threads` of the CPU, 0 = all. LPIPS is left out. Of a decoder's fine-tuning it is the rate of
    joint steps of its batch, which are made of the same layers. ValueError when a GPU is asked for
    and absent, or when a step would take minutes.
    """
    config = _as_joint(config)
    if config.cluster.use_gpu and not torch.cuda.is_available():
        raise ValueError(f"recipe {config.recipe} trains on GPUs and there is none here")
    device = torch.device("cuda" if config.cluster.use_gpu else "cpu")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        return _timed_steps(config, device)
    finally:
        torch.set_num_threads(before)


def _wait(device: torch.device) -> None:
    """Block until a GPU has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _as_joint(config: RunConfig) -> RunConfig:
    """The config of joint training with the length, batch and precision of `config`."""
    config = as_trained(config)
    return RunConfig(**{item.name: getattr(config, item.name) for item in fields(RunConfig)})


def _timed_steps(config: RunConfig, device: torch.device) -> float:
    flops = training_flops(config)
    per_image = sum(term.total for name, term in flops.terms.items() if name != "lpips")
    images = min(config.training.batch_size // config.training.accumulation, MEASURED_IMAGES)
    rate = TYPICAL_SHARE * measure_matmul_rate(device, compute_dtype(config))
    guess, noun = per_image * images / rate, build_domain(config.domain).noun
    if guess > LONGEST_MEASUREMENT_S:
        raise ValueError(
            f"a step of {count(images, noun)} of recipe {config.recipe} takes about "
            f"{duration(guess)} here"
        )
    one_step = _step(config, device, images)
    one_step()
    _wait(device)  # for the first step, too, which compiles
    started = time.perf_counter()
    for _ in range(MEASURED_STEPS):
        one_step()
    _wait(device)
    return per_image * images * MEASURED_STEPS / (time.perf_counter() - started)


def _step(config: RunConfig, device: torch.device, images: int) -> Any:
    """A training step on samples that the domain invents, as a function."""
    model = parallelize(build_model(config), config.training, device)
    optimizers, step = build_optimizers(model, config.optim), TrainingStep(model, config, None)
    domain = build_domain(config.domain)
    arrays = domain.example_fields(images, np.random.default_rng(0))
    tensors = {name: torch.from_numpy(array).to(device) for name, array in arrays.items()}
    rows_B = torch.arange(images, device=device)
    sample, labels_B = domain.to_sample(tensors)

    def one_step() -> None:
        optimizers.zero_grad()
        address = Address(seed=0, epochs_B=torch.zeros_like(rows_B), rows_B=rows_B)
        step.backward(sample, labels_B, address, flow_weight=1.0, scale=1.0)
        optimizers.set_lr(0.0)
        optimizers.step()

    return one_step


def _sampling_flops(config: RunConfig, trial: Trial) -> float:
    sampling = trial.protocol.sampling
    passes = evaluations(sampling)
    guided = passes if sampling.cfg_scale != 1 else 0
    return trial.protocol.num_samples * sampling_flops(config, passes, guided=guided)


def kept_checkpoints(config: RunConfig) -> int:
    """Number of checkpoints that retention keeps, and the one being written."""
    return config.checkpoint.keep_last + config.checkpoint.keep_best + 1
