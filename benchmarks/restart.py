"""Time that a killed worker costs: our training against an empty function under Ray Train.

    python benchmarks/restart.py [--rounds 3]

Headline: seconds from the kill -9 of a run's worker to its first step after it / seconds from the
kill of the worker of an empty function to the first line of the next one; goal at most 1.2. All
arms have one worker in one Ray of this machine, in turn, with the same environment. The empty
function imports nothing; ours is the recipe `smoke`, which loads its checkpoint, opens its data and
makes a step, with one worker and with a range of 1..2 of which one fits. The package is compiled
before, as a first start of it leaves it: an environment with PYTHONDONTWRITEBYTECODE compiles it in
every worker.
"""

from __future__ import annotations

import compileall
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import psutil
import tyro

from unite.checkpoints.layout import committed
from unite.cluster.connect import ENVIRONMENT, PACKAGE_ROOT, connect, describe_cluster
from unite.cluster.nodes import workers
from unite.cluster.resources import train_workers, wait_for
from unite.cluster.train import fit
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.drivers.followed import kill
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.interruptions import read_interruptions
from unite.training.runs import begin, open_run, request_stop
from unite.training.setup import Job

LOOK_S = 0.05
PATIENCE_S = 600.0
GOAL = 1.2


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    rounds: int = 3
    """Kills of each arm."""


def until(reached: Callable[[], Any]) -> None:
    """Wait for a state; TimeoutError when it does not come."""
    deadline = time.monotonic() + PATIENCE_S
    while not reached():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited for {PATIENCE_S:g} s in vain")
        time.sleep(LOOK_S)


def kill_worker() -> float:
    """Kill -9 of the process that trains; returns the time, in seconds since 1970."""
    (worker,) = workers(psutil.Process().children(recursive=True))
    at = time.time()
    kill([worker])
    return at


def empty(settings: dict[str, str]) -> None:
    """Worker of the bare arm: leaves the time, and waits for its end the first time."""
    import time
    from pathlib import Path

    folder = Path(settings["folder"])
    is_first = not any(folder.iterdir())
    (folder / repr(time.time())).touch()
    while is_first:
        time.sleep(1)


def bare(folder: Path) -> float:
    """Seconds from the kill to the first line of the next worker, which Ray Train starts."""
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    begun = folder / "begun"
    begun.mkdir(parents=True)

    def disturb() -> float:
        until(lambda: any(begun.iterdir()))
        return kill_worker()

    trainer = TorchTrainer(
        empty,
        train_loop_config={"folder": str(begun)},
        scaling_config=ScalingConfig(num_workers=1),
        run_config=RunConfig(
            name="bare", storage_path=str(folder), failure_config=FailureConfig(max_failures=1)
        ),
    )
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(disturb)
        trainer.fit()
    return max(float(file.name) for file in begun.iterdir()) - killed.result()


def ours(folder: Path, flags: Mapping[str, Any]) -> float:
    """Seconds from the kill to the first step of the group that goes on."""
    prepare_digits(Store.open(folder / "data" / "digits"))
    changes = {
        "storage": str(folder),
        "training.epochs": 1000.0,  # it is stopped
        "checkpoint.every_images": 512,
        "evaluation.every_images": 10**9,
        **flags,
    }
    run = open_run(replace(recipe("smoke"), changes))
    begin(run)

    def disturb() -> float:
        until(lambda: committed(run.folder))
        at = kill_worker()
        until(lambda: read_interruptions(run.folder))
        request_stop(run.folder)
        return at

    cluster, batch_size = run.config.cluster, run.config.training.batch_size
    group = wait_for(partial(train_workers, cluster, batch_size=batch_size), cluster)
    with ThreadPoolExecutor() as pool:
        killed = pool.submit(disturb)
        fit(Job(config=run.config, folder=run.folder), group, lambda is_main, images: Tracker())
    (lost,) = read_interruptions(run.folder)
    return lost.time + lost.seconds - killed.result()


def main(options: Options) -> None:
    """Kill in turn and print the ratios."""
    compileall.compile_dir(PACKAGE_ROOT / "unite", quiet=1)
    with tempfile.TemporaryDirectory() as folder:
        connect()
        half = {"cluster.cpus_per_worker": describe_cluster()["CPU"] / 2}  # Ray Data needs some
        arms = {
            "bare": bare,
            "ours": partial(ours, flags={}),
            "a range": partial(ours, flags={"cluster.num_workers": "1..2", **half}),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for number in range(options.rounds):
            for name, arm in arms.items():
                seconds[name].append(arm(Path(folder) / f"{name}-{number}"))
    for name, values in seconds.items():
        print(f"{name:<9}{', '.join(f'{value:.1f}' for value in values)} s from kill to first step")
    for name in list(arms)[1:]:
        ratio = statistics.median(seconds[name]) / statistics.median(seconds["bare"])
        print(f"{name} / bare: {ratio:.2f} (goal: at most {GOAL})")


if __name__ == "__main__":
    if not ENVIRONMENT.keys() <= os.environ.keys():
        # Ray and the allocator read their settings when a process starts.
        os.execve(sys.executable, [sys.executable, *sys.argv], ENVIRONMENT | dict(os.environ))
    main(tyro.cli(Options, description=__doc__))
