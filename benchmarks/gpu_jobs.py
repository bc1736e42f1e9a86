"""Long jobs of gpu.py, in pieces: python benchmarks/gpu_jobs.py {cifar10,fig5,qm9} --out DIR

Trains with the platform's own loop on local shards, without Ray and MLflow, until the time of
BENCHMARK_SECONDS (a variable, in seconds) is nearly over, then saves; the same call goes on from
there. What is trained is evaluated by `jobs/evaluate.py`. --data holds cifar10/ and qm9_dft/.

  cifar10   the recipe cifar10-gpu to its end; reconstruction and 10,000 samples
  fig5      Fig. 5 at the scale gpu: ends of the curves first, so that a part shows the trend
  qm9       the recipe to its end; 10,000 molecules
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "platform"))

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from unite.ablation.options import SweepOptions
from unite.ablation.trials import TrialGroup, expand
from unite.checkpoints.layout import STATE_FILE, committed, folder_of
from unite.config.axes import find_axis
from unite.config.recipes import recipe
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.data.ingest.builtin import prepare_builtin
from unite.data.loader import local_reader
from unite.evaluation.results import read_outcomes
from unite.runs import EVALUATIONS, RESULTS_FILE, data_uri, is_builtin
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.parallelize import World
from unite.training.requests import Request
from unite.training.runs import Run, begin, open_run
from unite.training.setup import Job, build_trainer

ROW = "ROW "
SAVING_S = 30.0
"""Seconds kept for the last checkpoint, and for the start of an evaluation."""
UNFINISHED = 75
"""Exit code when the time is over; the same call goes on."""
FIRST = ("14", "1")
"""Values of F that are trained first."""


def main(arguments: argparse.Namespace) -> int:
    """Go on with a job until its end or that of the time; 0 if it is finished.

    Once the time is over, what was found of the other runs is told, and nothing is begun.
    """
    begun = float(os.environ.get("BENCHMARK_STARTED") or time.time())
    left = begun + float(os.environ.get("BENCHMARK_SECONDS", "inf")) - SAVING_S - time.time()
    ends = time.monotonic() + left
    finished, failed = True, False
    for label, config in works(arguments):
        run = open_run(config)
        finished = finished and train(run, ends, arguments.toy)
        if finished:
            code = evaluate(run, config, ends, arguments.toy)
            finished, failed = code != UNFINISHED, failed or code not in (0, UNFINISHED)
        report(label, run)
    return 1 if failed else 0 if finished else UNFINISHED


def works(arguments: argparse.Namespace) -> Iterator[tuple[str, RunConfig]]:
    """Label and config of each run of a job, most valuable first."""
    storage = str(arguments.out / "runs")
    if arguments.job == "fig5":
        yield from fig5(arguments, storage)
        return
    if arguments.toy:
        yield "smoke", replace(recipe("smoke"), {"storage": storage})
        return
    data = Path(arguments.data) / "cifar10"
    if arguments.job == "qm9":
        data = molecules(Path(arguments.data) / "qm9_dft", arguments.out / "runs" / "data" / "qm9")
    use_gpu = torch.cuda.is_available()
    changes = {"storage": storage, "data.train": str(data), "cluster.use_gpu": use_gpu}
    name = {"cifar10": "cifar10-gpu"}.get(arguments.job, arguments.job)
    yield arguments.job, replace(recipe(name), changes)


def molecules(source: Path, folder: Path) -> Path:
    """QM9's molecules of one parquet file as shards of both splits; returns their folder."""
    if folder.is_dir():
        return folder
    table = pq.read_table(next(source.glob("*.parquet")))
    beside = folder.with_suffix(".part")
    beside.mkdir(parents=True, exist_ok=True)
    for split in ("train", "test"):
        rows = table.filter(pc.equal(table["split"].cast(pa.string()), split))
        columns = {
            name: pa.array([np.asarray(cell, kind).tobytes() for cell in rows[name].to_pylist()])
            for name, kind in (("numbers", "u1"), ("positions", "<f4"))
        }
        pq.write_table(pa.table(columns), beside / f"{split}-0.parquet", row_group_size=1024)
    beside.rename(folder)
    return folder


def fig5(arguments: argparse.Namespace, storage: str) -> Iterator[tuple[str, RunConfig]]:
    """Runs of Fig. 5: seed by seed, the ends of both curves before the rest."""
    scale = "smoke" if arguments.toy else "gpu"
    data = "" if arguments.toy else f"{arguments.data}/cifar10"
    options = SweepOptions(scale=scale, storage=storage, data=data)
    sweep = expand(find_axis("flow_ratio"), options)

    def order(group: TrialGroup) -> tuple[int, bool, int]:
        trial = group.trials[0]
        place = FIRST.index(trial.value) if trial.value in FIRST else len(FIRST)
        return trial.seed, "large" in trial.arm, place

    for group in sorted(sweep.works, key=order):
        yield sweep.label(group.trials[0]), group.config


def train(run: Run, ends: float, toy: bool) -> bool:
    """Train a run until its end or the time's, at least by a step; True if it is at its end."""
    if is_builtin(run.config.data.train):
        prepare_builtin(run.config.data.train, Store.open(data_uri(run.config, "train")))
    begin(run)
    device = torch.device("cuda" if torch.cuda.is_available() and not toy else "cpu")
    trainer = build_trainer(Job.of(run), World(device=device), Tracker(), local_reader)
    left = trainer.plan.total_images - trainer.images
    if left > 0:
        trainer.requests = lambda: Request.STOP if time.monotonic() > ends else Request.NONE
        summary = trainer.run()
        left = trainer.plan.total_images - summary["images"]
    trainer.stream.close()
    return left <= 0


def evaluate(run: Run, config: RunConfig, ends: float, toy: bool) -> int:
    """Measure a finished run; the exit code, UNFINISHED when the time was over."""
    words = [sys.executable, str(ROOT / "jobs" / "evaluate.py"), "--num-workers", "0"]
    words += ["--run", run.folder.uri, "--no-track", "--suite", "generation", "reconstruction"]
    words += ["--num-samples", "60" if toy else "10000"]
    if config.domain.kind == "images":
        words += ["--extractor", "pixels", *([] if toy else ["small"])]
    if torch.cuda.is_available() and not toy:
        words += ["--use-gpu"]
    left = ends - time.monotonic()
    if left <= 0:
        return UNFINISHED
    try:
        return subprocess.run(words, timeout=left if left < 1e6 else None).returncode
    except subprocess.TimeoutExpired:
        return UNFINISHED


def report(label: str, run: Run) -> None:
    """A row of what is known of a run that has begun: its last checkpoint's numbers, then those of
    evaluations."""
    if not (found := committed(run.folder)):
        return
    state = folder_of(run.folder, found[-1]).read_json(STATE_FILE)
    row: dict[str, Any] = {"run": label, "folder": run.folder.name, "images": state["images"]}
    row |= {k: f"{v:.4g}" for k, v in state["metrics"].items() if k.startswith("eval/")}
    for path in sorted(Path(run.folder.uri, EVALUATIONS).rglob(RESULTS_FILE)):
        for outcome in read_outcomes(Store.open(path.parent)):
            row |= {each.card.metric: f"{each.card.value:.4g}" for each in outcome.rows}
    print(ROW + json.dumps(row), flush=True)


def parse() -> argparse.Namespace:
    """The arguments."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("job", choices=["cifar10", "fig5", "qm9"])
    parser.add_argument("--out", type=Path, required=True, help="folder; runs are in its runs/")
    parser.add_argument("--data", default="shared/data", help="folder of cifar10/ and qm9_dft/")
    parser.add_argument("--toy", action="store_true", help="the recipe smoke, for tests")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(parse()))
