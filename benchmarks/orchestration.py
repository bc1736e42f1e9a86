"""Cost of orchestration: the trainer under Ray Train against the same loop in a plain process.

    python benchmarks/orchestration.py [--epochs 6]

Headline: step rate under Ray Train / step rate in a plain process, once warm; goal at least 0.97.
Both arms run the same Trainer on the same digits with one worker and the same threads, in turn
plain, Ray, plain, Ray. The rate is the median over log windows without the first quarter, so
start-up and single hiccups do not count. Ray's arm streams through Ray Data and runs beside Ray's
own processes; the plain arm reads in threads.
"""

import argparse
import os
import statistics
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

from unite.cluster.connect import ENVIRONMENT, connect
from unite.cluster.resources import train_workers, wait_for
from unite.cluster.train import fit, set_threads
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.storage import Store
from unite.training.parallelize import World
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_trainer

RATE = "throughput/images_per_s"


class Recorder:
    """A tracker that keeps the step rates of log windows in a file that the driver reads."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.rates: list[float] = []

    def log(self, metrics: dict[str, float], step: int) -> None:
        """Keep the rate of the window."""
        if RATE in metrics:
            self.rates.append(metrics[RATE])

    def image(self, key: str, image: Any, step: int) -> None:
        """Pictures are not measured."""

    def close(self) -> None:
        """Write what was kept."""
        self.store.write_json("rates.json", self.rates)


def make_job(config: RunConfig, name: str) -> Job:
    """A fresh run of the config."""
    run = open_run(replace(config, {"name": name}))
    begin(run)
    return Job(config=run.config, folder=run.folder)


def run_plain(job: Job) -> None:
    """The Trainer in this process."""
    tracker = Recorder(job.folder)
    set_threads(job.config.cluster.threads_per_worker, 1)
    trainer = build_trainer(job, World(), tracker, local_reader)
    try:
        trainer.run()
    finally:
        trainer.stream.close()
        tracker.close()


def run_ray(job: Job) -> None:
    """The Trainer in a Ray Train worker."""
    folder = job.folder
    cluster = job.config.cluster
    group = wait_for(partial(train_workers, cluster), cluster)
    fit(job, group, lambda is_main, images: Recorder(folder))


def warm_rate(job: Job) -> float:
    """Median images per second of the windows after the first quarter."""
    rates = job.folder.read_json("rates.json")
    return statistics.median(rates[len(rates) // 4 :])


def main() -> None:
    """Run the arms in turn and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=float, default=6.0, help="passes over 1,500 digits")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each arm")
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {"plain": [], "ray": []}
    with tempfile.TemporaryDirectory() as folder:
        prepare_digits(Store.open(f"{folder}/data/digits"))
        changes = {
            "storage": folder,
            "training.epochs": arguments.epochs,
            "training.log_every_steps": 4,
            "checkpoint.every_images": 10**9,
            "evaluation.every_images": 10**9,
        }
        config = replace(recipe("digits"), changes)
        connect()
        for number in range(arguments.rounds):
            for name, run in {"plain": run_plain, "ray": run_ray}.items():
                job = make_job(config, f"{name}-{number}")
                run(job)
                rates[name].append(warm_rate(job))
    for name, values in rates.items():
        print(f"{name:<8}{', '.join(f'{value:.0f}' for value in values)} images/s, warm")
    ratio = statistics.median(rates["ray"]) / statistics.median(rates["plain"])
    print(f"Ray Train / plain process: {ratio:.3f}")


if __name__ == "__main__":
    if not ENVIRONMENT.keys() <= os.environ.keys():
        # The allocator reads its settings when a process starts: give both arms the same.
        os.execve(sys.executable, [sys.executable, *sys.argv], ENVIRONMENT | dict(os.environ))
    main()
