"""Waiting of threads of arithmetic for each other: python benchmarks/barriers.py [--help]

Headline: samples per second of training steps on two threads, by how long a thread spins before it
sleeps at the end of each operation. An operation of a small model takes microseconds; a thread that
sleeps has to be woken by the kernel, one that spins keeps a core from whatever else runs. So every
arm runs twice: alone, and beside a process that wants a whole core.

The variables are read when torch is loaded: each arm is a process of its own, and arms take turns.
A second pool of threads is alive in each, as in a worker of Ray Train, since GNU's OpenMP spins
less once there are more threads than cores.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import torch
import tyro
from molecule_step import Options as StepOptions
from molecule_step import batch_of, step

from unite.cluster.connect import ENVIRONMENT
from unite.config.recipes import recipe
from unite.domains import build_domain
from unite.models import UNITE
from unite.training.step import TrainingStep

READ = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
OURS = {name: ENVIRONMENT[name] for name in READ}
MEMORY = {name: value for name, value in ENVIRONMENT.items() if name.startswith("MALLOC_")}
ARMS: Mapping[str, tuple[int, Mapping[str, str]]] = {
    "one thread": (1, {}),
    "two that sleep at once": (2, {"OMP_WAIT_POLICY": "PASSIVE"}),
    "two as `unite` sets them": (2, OURS),
    "two as the library does": (2, {}),
}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    recipes: tuple[str, ...] = ("qm9-tiny", "smoke", "digits")
    """Recipes whose models are trained, without their perceptual loss."""
    batch: int = 64
    """Samples per step."""
    steps: int = 8
    """Steps that are timed per process, after two that are not."""
    rounds: int = 3
    """Processes per arm."""


def rate(name: str, threads: int, batch: int, steps: int) -> float:
    """Samples per second of training steps of a recipe in this process."""
    torch.set_num_threads(threads)
    product = torch.randn(512, 512)
    side, stop = threading.Event(), threading.Event()

    def other_pool() -> None:
        product @ product
        side.set()
        stop.wait()

    thread = threading.Thread(target=other_pool)
    thread.start()
    side.wait()
    config = recipe(name)
    domain = build_domain(config.domain)
    training = TrainingStep(UNITE(config.model, domain, config.flow), config, None)
    fields = batch_of(domain, batch, seed=0)
    setting = StepOptions(batch=batch, groups=config.training.accumulation)
    seconds = []
    for _ in range(steps + 2):
        started = time.perf_counter()
        step(training, fields, setting, cut=True)
        seconds.append(time.perf_counter() - started)
    stop.set()
    thread.join()
    return batch / statistics.median(seconds[2:])


@contextmanager
def neighbour(busy: bool) -> Iterator[None]:
    """A process that wants a whole core, where `busy`."""
    if not busy:
        yield
        return
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run_arm(name: str, arm: str, options: Options) -> float:
    """Samples per second of one process."""
    threads, variables = ARMS[arm]
    kept = {k: v for k, v in os.environ.items() if k not in (*READ, "OMP_NUM_THREADS")}
    call = f"rate({name!r}, {threads}, {options.batch}, {options.steps})"
    done = subprocess.run(
        [sys.executable, "-c", f"import barriers; print(barriers.{call})"],
        cwd=Path(__file__).parent,
        env={**kept, **MEMORY, **variables},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return float(done.stdout.split()[-1])


def main(options: Options) -> None:
    """Time the arms in turn and print a table of medians."""
    print("| recipe | threads | alone | beside a busy process |\n| --- | --- | --- | --- |")
    for name in options.recipes:
        rates: dict[tuple[str, bool], list[float]] = {}
        for _ in range(options.rounds):
            for busy in (False, True):
                with neighbour(busy):
                    for arm in ARMS:
                        rates.setdefault((arm, busy), []).append(run_arm(name, arm, options))
        for arm in ARMS:
            alone, beside = (statistics.median(rates[arm, busy]) for busy in (False, True))
            print(f"| {name} | {arm} | {alone:.0f} samples/s | {beside:.0f} |", flush=True)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
