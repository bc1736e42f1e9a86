"""Our pool of actors against Ray Data's: python benchmarks/fanout.py [--help]

Both spread the chunks of the generation suite over two workers of one thread each. Arms: `pool` is
`unite.cluster.pool.Pool`, which evaluation uses; `ray data` is `map_batches` over the same chunks
with `ActorPoolStrategy(size=2)`; `pool, 1 worker` shows what two workers are worth. Workers are
made by the same function and keep the same files, and every arm's results are compared bit by bit.

Headline metrics, each the median over rounds in which the arms take turns, so that a slow phase of
the machine meets all of them:

- first chunk: seconds from the call to the first finished chunk, workers not yet there;
- next call: the same in a second call of the session. An evaluation makes up to four (extractor,
  reference, guidance, suites), so that this is paid again and again;
- images/s: chunks after the first of the second call, over the time that they take. Goal of the
  pool: 1.8 times its one worker;
- kill -9: seconds that a call takes longer when one of its workers is killed after its first chunk;
  the results must be those of an undisturbed call.

Other work on the machine takes cores away from the arms that use two: the load is printed.

    OMP_NUM_THREADS=1 python benchmarks/fanout.py --samples 960 --rounds 3

The model is that of the recipe digits with fresh weights: the cost is the same.
"""

from __future__ import annotations

import os
import pickle
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "platform"))

import numpy as np
import tyro

from unite.checkpoints.export import write_export
from unite.cluster.connect import connect
from unite.cluster.pool import Pool
from unite.config.recipes import recipe
from unite.config.serialise import to_dict
from unite.drivers.session import CPU_BATCH, make_worker
from unite.evaluation.arguments import WorkerArguments
from unite.evaluation.chunks import partition
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.suite import WorkItem, read_chunks, work_items
from unite.evaluation.suites.images_generation import Generation
from unite.evaluation.target import Subject
from unite.storage import Store
from unite.training.setup import build_model

GOAL = 1.8
ARMS = {"pool, 1 worker": 1, "pool": 2, "ray data": 2}
Call = Callable[[Sequence[WorkItem], Callable[[], object]], None]
"""Function of (work, called after each finished chunk) that computes the work."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Settings of the benchmark."""

    samples: int = 960
    """Samples of a call."""
    steps: int = 10
    """Heun steps."""
    rounds: int = 3
    """Rounds of all arms."""


@dataclass(kw_only=True)
class Seconds:
    """Wall seconds of an arm, one value per round."""

    first: list[float] = field(default_factory=list)
    """To the first chunk of a session."""
    again: list[float] = field(default_factory=list)
    """To the first chunk of its second call."""
    rest: list[float] = field(default_factory=list)
    """For the other chunks of the second call."""
    killed: list[float] = field(default_factory=list)
    """For a third call, less those of the second, when a worker is killed."""


class Watched:
    """Worker of either arm: it leaves its process id in a folder, and counts what it computes."""

    def __init__(self, folder: str) -> None:
        (Path(folder) / str(os.getpid())).touch()
        self.work = make_worker(False, CPU_BATCH)

    def __call__(self, batch: Any) -> Any:
        """Compute a chunk; Ray Data gives it inside a batch."""
        if not isinstance(batch, dict):
            return self.work(batch)
        self.work(pickle.loads(batch["work"][0]))
        return {"done": np.ones(1)}


def main(options: Options) -> None:
    """Time all arms and print the table."""
    load = os.getloadavg()[0]
    found = {arm: Seconds() for arm in ARMS}
    with tempfile.TemporaryDirectory() as folder:
        task = generation(options, Path(folder))
        connect(num_cpus=4)
        for number in range(options.rounds):
            for arm in ARMS:
                measure(arm, found[arm], task, f"{folder}/{number}/{arm}", number)
            for call in ("second", "third"):
                places = [f"{folder}/{number}/{arm}/{call}" for arm in ARMS]
                compare([replace(task, home=place, seed=number) for place in places])
        report(options, found, load)


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


def measure(arm: str, seconds: Seconds, task: Generation, folder: str, seed: int) -> None:
    """One session of an arm: a small call, a timed one, and one with a killed worker."""
    pids = Path(folder) / "pids"
    pids.mkdir(parents=True)
    call, close = opened(arm, str(pids))
    try:
        small = replace(task, home=f"{folder}/first", total=64, seed=seed)
        seconds.first.append(timed(call, small)[0])
        again, whole = timed(call, replace(task, home=f"{folder}/second", seed=seed))
        seconds.again.append(again)
        seconds.rest.append(whole - again)
        third = replace(task, home=f"{folder}/third", seed=seed)
        seconds.killed.append(timed(call, third, kill_one_of=pids)[1] - whole)
    finally:
        close()


def opened(arm: str, pids: str) -> tuple[Call, Callable[[], None]]:
    """The arm's call, and what ends its workers."""
    if arm == "ray data":
        return lambda work, told: ray_data(work, told, pids), lambda: None
    pool: Pool[WorkItem] = Pool(lambda: Watched(pids), WorkerArguments(num_workers=ARMS[arm]))
    return lambda work, told: pool.run(work, lambda _: told()), pool.close


def ray_data(works: Sequence[WorkItem], told: Callable[[], object], pids: str) -> None:
    """Compute work on a fixed pool of Ray Data."""
    import ray.data

    items = ray.data.from_items(
        [{"work": pickle.dumps(work)} for work in works], override_num_blocks=len(works)
    )
    done = items.map_batches(
        Watched,
        fn_constructor_args=(pids,),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=ARMS["ray data"]),
        num_cpus=1,
    )
    for _ in done.iter_rows():
        told()


def timed(call: Call, task: Generation, kill_one_of: Path | None = None) -> tuple[float, float]:
    """Seconds to the first chunk and to the last one."""
    started, ends = time.perf_counter(), []

    def told() -> None:
        ends.append(time.perf_counter() - started)
        if len(ends) == 1 and kill_one_of is not None:
            os.kill(alive(kill_one_of), signal.SIGKILL)

    call(work_items(task), told)
    assert len(ends) == len(task.chunks()), "each chunk is told once"
    return ends[0], ends[-1]


def alive(pids: Path) -> int:
    """Process of a living worker."""
    for file in sorted(pids.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True):
        if Path(f"/proc/{file.name}").exists():
            return int(file.name)
    raise AssertionError("no worker is alive")


def compare(tasks: Sequence[Generation]) -> None:
    """Check that all arms gave the same results, bit by bit."""
    first, *others = tasks
    for other in others:
        for ours, theirs in zip(read_chunks(first), read_chunks(other), strict=True):
            for name in set(ours) - {"seconds"}:
                np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def report(options: Options, found: dict[str, Seconds], load: float) -> None:
    """The table and the headline."""
    chunks = partition("generation", options.samples)
    images = options.samples - len(chunks[0])
    rates = {arm: images / statistics.median(seconds.rest) for arm, seconds in found.items()}
    what = f"{options.samples} samples, {options.steps} Heun steps, guidance, {len(chunks)} chunks"
    print(f"\n{what}, {os.cpu_count()} cores, load at the start {load:.1f}")
    print("| arm | first chunk, s | next call, s | images/s | after kill -9, s |")
    print("| --- | --- | --- | --- | --- |")
    for arm, each in found.items():
        first, again, killed = map(statistics.median, (each.first, each.again, each.killed))
        print(f"| {arm} | {first:.2f} | {again:.2f} | {rates[arm]:.1f} | {killed:+.2f} |")
    print(f"2 workers / 1 worker: {rates['pool'] / rates['pool, 1 worker']:.2f} (goal {GOAL})")
    print(f"pool / ray data: {rates['pool'] / rates['ray data']:.2f} in images/s; "
          "results bit-equal, with killed workers too")  # fmt: skip


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
