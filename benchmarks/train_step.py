"""Our training step against a plain one: python benchmarks/train_step.py [--help]

Headline: time of the plain step / time of ours, per optimiser step at F = 14 (goal: at least 1.3 on
a CPU, 2.0 on a GPU with UNITE-B). Noise of the machine cannot move it much: both arms run in one
process on the same batches in alternating blocks, and the median of the per-block ratios counts.

Arms, with the same initial weights, batches, addressed noise, precision and recompute setting:
  ours    the platform's Trainer.train_step: batched noisings (`chunk` at a time), batched Muon,
          fused AdamW, foreach EMA; one table row eager and one with compiled blocks
  plain   as a straightforward implementation does it: eager, a Python loop of F passes, one graph
          and one backward, torch.optim.Muon and AdamW, gradient clipping and EMA tensor by tensor
Both arms' losses are printed: they follow each other to rounding.

  OMP_NUM_THREADS=1 python benchmarks/train_step.py                     # digits, CPU
  python benchmarks/train_step.py --recipe unite-b --device cuda --noisings 3 14 --batch 128 \
      --chunk 0 --recompute
Small models on a CPU want few noisings at a time, so that activations stay in its caches. LPIPS,
where the recipe has it, runs on random VGG weights: the cost is the same.
"""

from __future__ import annotations

import itertools
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import torch
from train_step_arms import Arm, Ours, Plain, Setting

from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.domains import build_domain
from unite.training.flops import compute_dtype, measure_matmul_rate, mfu, training_flops

EPOCH_IMAGES = 50_000
GOALS = {"cpu": 1.3, "cuda": 2.0}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    recipe: str = "digits"
    """Recipe of model, losses and optimisers."""
    device: str = "cpu"
    """cpu or cuda."""
    noisings: tuple[int, ...] = (14,)
    """Values of F."""
    compiled: tuple[bool, ...] = (False, True)
    """Values of the switch that compiles our arm's blocks; one table row each, for every F."""
    batch: int = 0
    """Images per step; 0 = the recipe's."""
    chunk: int = 2
    """Noisings per pass of our arm, lowered to a divisor of F; 0 = all."""
    recompute: bool = False
    """Gradient checkpointing in both arms."""
    warmup: int = 3
    """Steps of each arm before the clock runs (they compile)."""
    rounds: int = 10
    """Blocks of each arm."""
    block: int = 4
    """Steps per block."""
    out: str = ""
    """Folder for a dated report; empty = print only."""


def main(options: Options) -> None:
    """Measure every F and print, and write, the report."""
    device = torch.device(options.device)
    rate = measure_matmul_rate(device, compute_dtype(recipe(options.recipe)))
    lines = [
        f"# Training step, {options.recipe} on {describe(device)}",
        f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}, matmul rate "
        f"{rate / 1e12:.3g} TFLOP/s; {options.rounds} blocks of {options.block} steps per arm",
        "",
        "| F | our blocks | batch | plain, ms | ours, ms | ratio (quartiles) | ours: images/s | "
        "MFU, ours (plain) | peak GiB, ours (plain) | largest loss difference |",
        "|" + " --- |" * 10,
    ]
    losses = []
    for noisings, compiled in itertools.product(options.noisings, options.compiled):
        torch.compiler.reset()
        result = measure(build_setting(options, noisings, compiled, device), options)
        lines.append(result.row(rate))
        losses.append(result.loss_lines())
        print("\n".join([lines[-1], losses[-1]]), flush=True)
    goal = GOALS.get(device.type)
    report = "\n".join([*lines, "", f"Goal: ratio of at least {goal} at F = 14.", "", *losses])
    print("\n" + report)
    if options.out:
        path = Path(options.out) / f"{datetime.now(UTC):%Y-%m-%d}_train_step_{device.type}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report + "\n")
        print(f"\nwritten to {path}")


def build_setting(options: Options, noisings: int, compiled: bool, device: torch.device) -> Setting:
    """The recipe with F noisings.

    The learning rate warms up as the recipe says: rounding differences then stay small for longer.
    """
    base = recipe(options.recipe)
    batch = options.batch or base.training.batch_size
    chunk = max((n for n in range(1, options.chunk + 1) if noisings % n == 0), default=0)
    config = replace(
        base,
        flow=replace(base.flow, steps=noisings, chunk=chunk),
        training=replace(
            base.training,
            batch_size=batch,
            gradient_checkpointing=options.recompute,
            compile=compiled,
        ),
    )
    return Setting.of(config, device, EPOCH_IMAGES)


@dataclass(frozen=True, kw_only=True)
class Result:
    """Measurements at one F: seconds per step of each block, losses of each step, peak memory."""

    config: RunConfig
    seconds: dict[str, list[float]]
    losses: dict[str, list[float]]
    peak_gib: dict[str, float]

    def row(self, rate: float) -> str:
        """The table row."""
        plain, ours = (statistics.median(self.seconds[arm]) for arm in ("plain", "ours"))
        pairs = zip(self.seconds["plain"], self.seconds["ours"], strict=True)
        low, middle, high = statistics.quantiles([a / b for a, b in pairs], n=4)
        batch = self.config.training.batch_size
        flops = training_flops(self.config).model
        used = [f"{mfu(flops, batch / seconds, rate):.1%}" for seconds in (ours, plain)]
        blocks = "compiled" if self.config.training.compile else "eager"
        memory = "-"
        if self.peak_gib:
            memory = f"{self.peak_gib['ours']:.1f} ({self.peak_gib['plain']:.1f})"
        return (
            f"| {self.config.flow.steps} | {blocks} | {batch} | {1e3 * plain:.1f} | "
            f"{1e3 * ours:.1f} | **{middle:.2f}** ({low:.2f}..{high:.2f}) | {batch / ours:.0f} | "
            f"{used[0]} ({used[1]}) | {memory} | {self.difference():.1e} |"
        )

    def difference(self) -> float:
        """Largest relative difference of the two arms' losses over all steps."""
        pairs = zip(self.losses["plain"], self.losses["ours"], strict=True)
        return max(abs(a - b) / abs(a) for a, b in pairs)

    def loss_lines(self) -> str:
        """Losses of a few steps, both arms."""
        count = len(self.losses["ours"])
        steps = sorted({0, 1, count // 4, count // 2, count - 1})
        values = ", ".join(
            f"step {s}: {self.losses['plain'][s]:.6f} / {self.losses['ours'][s]:.6f}" for s in steps
        )
        blocks = "compiled" if self.config.training.compile else "eager"
        return f"Losses at F = {self.config.flow.steps}, plain / ours ({blocks}): {values}.\n"


def measure(setting: Setting, options: Options) -> Result:
    """Alternating blocks of both arms on the same batches."""
    stream = list(batches(setting, options.warmup + options.rounds * options.block))
    warming, timed = stream[: options.warmup], stream[options.warmup :]
    arms: dict[str, Arm] = {}
    resident: dict[str, int] = {}
    for name, build in (("plain", Plain), ("ours", Ours)):
        before = allocated(setting.device)
        arms[name] = build(setting)
        for batch in warming:
            arms[name](batch)
        resident[name] = allocated(setting.device) - before
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    peaks = {name: 0.0 for name in arms}
    for start in range(0, len(timed), options.block):
        block = timed[start : start + options.block]
        # Who goes first alternates, so that neither always finds warm caches.
        for name in sorted(arms, reverse=start // options.block % 2 == 1):
            taken, peak = timed_block(arms[name], block, setting.device)
            seconds[name].append(taken / len(block))
            other = resident["ours" if name == "plain" else "plain"]
            peaks[name] = max(peaks[name], (peak - other) / 2**30)
    curves = {name: arm.losses() for name, arm in arms.items()}
    measured = peaks if setting.device.type == "cuda" else {}
    return Result(config=setting.config, seconds=seconds, losses=curves, peak_gib=measured)


def batches(setting: Setting, count: int) -> Iterator[Any]:
    """The first `count` batches: addressed rows of invented samples, as the data stream gives."""
    domain, size = build_domain(setting.config.domain), setting.config.training.batch_size
    generator = np.random.default_rng(0)
    for step in range(count):
        rows = np.arange(step * size, (step + 1) * size)
        yield SimpleNamespace(
            fields=domain.example_fields(size, generator), rows_B=rows, epochs_B=rows * 0
        )


def timed_block(arm: Arm, block: list[Any], device: torch.device) -> tuple[float, int]:
    """Seconds and peak device bytes of a few steps, waiting for the last."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    for batch in block:
        arm(batch)
    if device.type == "cuda":
        torch.cuda.synchronize()
    taken = time.perf_counter() - start
    return taken, torch.cuda.max_memory_allocated() if device.type == "cuda" else 0


def allocated(device: torch.device) -> int:
    return torch.cuda.memory_allocated() if device.type == "cuda" else 0


def describe(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


if __name__ == "__main__":
    import tyro

    main(tyro.cli(Options))
