"""Two workers against one: python benchmarks/fanout.py [--help]

Headline metric: images/s of the generation suite on two Ray actors divided by that on one, one
thread each, on two cores (goal: at least 1.8). What is left of 2.0 is the price of leasing chunks
and of the machine's shared caches and clock.

Arms. Both fleets are up and warm (models loaded) before anything is timed, and take turns: the same
task of the same seeds, so the same work; each round the results are compared bit by bit. The ratio
divides medians over rounds, so a slow phase of the machine meets both arms; other work on the
machine takes cores away from the arm that uses two, so the load is printed: it must be near 0
before the start. The last line tells what one lease of no work costs.

    OMP_NUM_THREADS=1 python benchmarks/fanout.py --samples 960 --rounds 3

The model is that of the recipe digits with fresh weights: the cost is the same.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import tyro

from unite.checkpoints.export import write_export
from unite.cluster.connect import connect
from unite.cluster.pool import Fleet, Wish
from unite.config.recipes import recipe
from unite.config.serialise import to_dict
from unite.drivers.session import CPU_BATCH, make_worker
from unite.evaluation.chunks import partition
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.suites.generation import Generation
from unite.evaluation.task import Subject, Work, read_chunks, work_of
from unite.storage import Store
from unite.training.setup import build_model

GOAL = 1.8
EMPTY_LEASES = 200


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    samples: int = 960
    """Samples of a round and arm."""
    steps: int = 10
    """Heun steps."""
    rounds: int = 3
    """Rounds of both arms."""


def main(options: Options) -> None:
    """Time both arms and print the table."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        task = generation(options, Path(folder))
        connect(num_cpus=4)
        fleets = {num: Fleet(partial(make_worker, False, CPU_BATCH), Wish(num_workers=num))
                  for num in (1, 2)}  # fmt: skip
        for num, fleet in fleets.items():
            run(fleet, replace(task, home=f"{folder}/warm-{num}", total=64 * num))
        seconds: dict[int, list[float]] = {num: [] for num in fleets}
        for number in range(options.rounds):
            for num, fleet in fleets.items():
                seconds[num].append(run(fleet, at(task, folder, num, number)))
            compare(at(task, folder, 1, number), at(task, folder, 2, number))
        for fleet in fleets.values():
            fleet.close()
        report(options, seconds, lease_seconds(), load)


def generation(options: Options, folder: Path) -> Generation:
    """The task, on an export with fresh weights."""
    config = recipe("digits")
    export = Store.open(folder / "export")
    write_export(build_model(config), to_dict(config), export)
    subject = Subject(digest="fresh", uri=export.uri, home=str(folder), config=config)
    return Generation(
        total=options.samples,
        home=str(folder),
        subject=subject,
        sampling=replace(config.sampling, num_steps=options.steps),
        sources=(ExtractorSource.open("pixels", config.domain),),
        references=("",),
    )


def at(task: Generation, folder: str, workers: int, number: int) -> Generation:
    """The task of a round, in a folder of its own."""
    return replace(task, home=f"{folder}/{workers}-{number}", seed=number)


def run(fleet: Fleet[Work], task: Generation) -> float:
    """Wall seconds of all chunks of a task."""
    started = time.perf_counter()
    fleet.run(work_of(task), lambda work: None)
    return time.perf_counter() - started


def compare(first: Generation, second: Generation) -> None:
    """Check that both arms gave the same results, bit by bit."""
    for ours, theirs in zip(read_chunks(first), read_chunks(second), strict=True):
        for name in set(ours) - {"seconds"}:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def lease_seconds() -> float:
    """Wall seconds of one item that does nothing, on one worker."""
    fleet: Fleet[object] = Fleet(lambda: lambda item: None, Wish(num_workers=1))
    fleet.run([0], lambda item: None)
    started = time.perf_counter()
    fleet.run(list(range(EMPTY_LEASES)), lambda item: None)
    seconds = time.perf_counter() - started
    fleet.close()
    return seconds / EMPTY_LEASES


def report(options: Options, seconds: dict[int, list[float]], lease: float, load: float) -> None:
    """The table and the headline."""
    print(f"\n{options.samples} samples, {options.steps} Heun steps, guidance, "
          f"{len(partition('generation', options.samples))} chunks, {os.cpu_count()} cores, "
          f"load at the start {load:.1f}")  # fmt: skip
    print("| workers | median s | images/s | all rounds, s |\n| --- | --- | --- | --- |")
    for num, values in seconds.items():
        middle = statistics.median(values)
        rounds = ", ".join(f"{value:.2f}" for value in values)
        print(f"| {num} | {middle:.2f} | {options.samples / middle:.1f} | {rounds} |")
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[2])
    print(f"2 workers / 1 worker: {ratio:.2f} (goal {GOAL}); results bit-equal")
    print(f"one lease of no work: {1000 * lease:.1f} ms")


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
