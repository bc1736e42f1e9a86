"""Scan of a large storage by scheduled evaluation: python benchmarks/survey.py [--help]

Headline metrics: wall seconds to find what 10,000 checkpoints lack (goal: at most 15 s), and the
largest resident memory of the process, imports included (goal: at most 200 MiB). The work is many
small files, so the number of checkpoints is what counts and not their size: each is a folder of a
marker and a state with its config, its metrics and a history of 20 evaluations, and holds no
tensors. Every other checkpoint has a result of one suite. MLflow, a sqlite file, is asked for runs.

Arms, in one run: the scan of a hundredth of the checkpoints, and of all of them. Time must grow no
faster than their number; what the first pays beyond its share is what a run costs once (config,
data, classes).

    python benchmarks/survey.py --checkpoints 10000 --runs 100
"""

from __future__ import annotations

import gc
import hashlib
import json
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import tyro

from unite.checkpoints.layout import MARKER, STATE_FILE, folder_of
from unite.config.recipes import recipe
from unite.config.schema import TrackingConfig
from unite.config.serialise import replace, to_dict
from unite.data.ingest.digits import prepare_digits
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.drivers.survey import Survey, survey
from unite.evaluation.results import write_outcomes
from unite.runs import CONFIG_FILE
from unite.scheduling.rounds import ScheduleArguments
from unite.storage import Store
from unite.tracking.server import connect, resolve_uri

GOAL_SECONDS, GOAL_MIB = 15.0, 200.0
DONE_SUITE = "entropy"
HISTORY = 20


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    checkpoints: int = 10_000
    """Checkpoints of the large storage."""
    runs: int = 100
    """Runs that share them."""


def main(options: Options) -> None:
    """Make both storages, scan them and print the table."""
    load = os.getloadavg()[0]
    small = max(options.checkpoints // 100, 2), max(options.runs // 100, 1)
    sizes = {"small": small, "large": (options.checkpoints, options.runs)}
    with tempfile.TemporaryDirectory() as folder:
        # In another process, so that its memory is not what the scan uses again.
        with ProcessPoolExecutor(1, get_context("fork")) as other:
            for name, (num, runs) in sizes.items():
                other.submit(make_storage, Path(folder) / name, num, runs).result()
        rows = [scanned(Path(folder) / name, *size) for name, size in sizes.items()]
    print(f"{os.cpu_count()} cores, load at the start {load:.1f}")
    print("| checkpoints | runs | seconds | CPU seconds | peak MiB | MiB of the scan | missing |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for num, runs, seconds, cpu, mib, added, missing in rows:
        counts = f"{num:,} | {runs} | {seconds:.2f} | {cpu:.2f} | {mib:.0f} | {added:.0f}"
        print(f"| {counts} | {missing:,} |")
    _, _, seconds, _, mib, _, _ = rows[-1]
    print(f"goals: {seconds:.1f} s of {GOAL_SECONDS:g} s, {mib:.0f} MiB of {GOAL_MIB:g} MiB")


def scanned(storage: Path, num: int, runs: int) -> tuple[int, int, float, float, float, float, int]:
    """Checkpoints, runs, seconds, CPU seconds, peak MiB, MiB that the scan added, and requests that
    it misses."""
    reset_peak()
    before, started, cpu = peak_mib(), time.perf_counter(), time.process_time()
    found = scan(storage)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert found.done == num // 2, f"results: {found.done}"
    assert (len(found.missing) + found.done) % num == 0, "each checkpoint has every suite"
    peak = peak_mib()
    return num, runs, seconds, cpu, peak, peak - before, len(found.missing)


def scan(storage: Path) -> Survey:
    """The scan of every run and suite."""
    return survey(ScheduleArguments(once=True), str(storage))


def make_storage(storage: Path, num: int, runs: int) -> None:
    """Write runs with checkpoints, half of which have a result."""
    data = Store.open(storage / "data" / "digits")
    prepare_digits(data)
    uri = resolve_uri(TrackingConfig(), str(storage))
    connect(uri, create=True).create_experiment("unite")
    digest = ShardSet.open(data.uri, "train", IMAGES).digest
    for number in range(runs):
        config = replace(recipe("smoke"), {"storage": str(storage), "name": f"run-{number:03d}"})
        run = Store.open(storage / config.name)
        run.write_json(CONFIG_FILE, to_dict(config))
        for images in range(256, 256 * (1 + num // runs), 256):
            write_checkpoint(folder_of(run, images), images, to_dict(config), digest)
    mine = [request for request in scan(storage).missing if request.suite == DONE_SUITE]
    for request in mine[: num // 2]:
        task = request.measurement.as_made(request.subject)
        assert task is not None
        write_outcomes(task.folder, [])


def write_checkpoint(folder: Store, images: int, config: dict[str, object], digest: str) -> None:
    """A committed checkpoint without tensors."""
    metrics = {f"eval/{name}": 0.5 for name in ("psnr", "l1", "score", "std")}
    state = {
        "images": images,
        "step": images // 32,
        "config": config,
        "metrics": metrics,
        "manifest_digest": digest,
        "history": [{"images": images, **metrics}] * HISTORY,
    }
    text = json.dumps({**state, "place": folder.uri})
    folder.write(STATE_FILE, text.encode())
    found = hashlib.sha256(text.encode()).hexdigest()
    folder.write_json(MARKER, {"sha256": {STATE_FILE: found}})


def reset_peak() -> None:
    """Make the kernel count the largest resident memory of this process afresh."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")


def peak_mib() -> float:
    """Largest resident memory of this process since then, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
