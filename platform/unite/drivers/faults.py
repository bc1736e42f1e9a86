"""Faults of drills: each disturbs a scratch training for real and lets it end."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from unite import tracking
from unite.cluster.nodes import LocalNodes, workers
from unite.config.recipes import recipe as named_recipe
from unite.config.recipes import training_size
from unite.drivers.followed import Followed, kill
from unite.drivers.mlflow_server import Server
from unite.runs import read_metrics, read_record
from unite.storage import Store
from unite.words import count

STEPS_PER_SAVE = 16
"""Optimiser steps between two checkpoints of a scratch run."""
STEPS = 160
"""Optimiser steps of a scratch run."""
NOTICE_S = 20.0
"""Seconds between a spot market's notice and the end of the node."""
AWAY_S = 30.0
"""Seconds for which the object store refuses connections."""
UNTRACKED = "--tracking.no-enabled"
CHEAP_REPORT = {"--sampling.solver": "euler", "--sampling.num-steps": "2"}
"""Flags of a training whose samples nobody looks at."""


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """A temporary storage and the size of the trainings in it."""

    recipe: str
    folder: Path
    steps: int = STEPS
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables of the commands, beside those of this process."""
    storage: str = ""
    """Storage of the run; empty = the folder."""

    @property
    def batch(self) -> int:
        """Images of an optimiser step."""
        return named_recipe(self.recipe).training.batch_size

    @property
    def every(self) -> int:
        """Images between two checkpoints."""
        return STEPS_PER_SAVE * self.batch

    def training(self, name: str, workers: int, *more: str, **environment: str) -> Followed:
        """A training that is not started yet."""
        storage = self.storage or str(self.folder)
        flags = {
            "--storage": storage,
            "--name": name,
            "--training.epochs": repr(self.steps * self.batch / training_size(self.recipe)),
            "--checkpoint.every-images": str(self.every),
            "--evaluation.every-images": str(10**9),
            "--cluster.num-workers": str(workers),
            "--cluster.threads-per-worker": "1",
            **CHEAP_REPORT,
        }
        words = [self.recipe, *(word for pair in flags.items() for word in pair), *more]
        alone = {"RAY_ADDRESS": "local"}  # a drill never joins a cluster in use
        known = {**os.environ, **alone, **self.environment, **environment}
        run = Store.open(storage) / name
        return Followed(run, words, known, self.folder / f"{name}.log")


@dataclass(frozen=True, kw_only=True)
class Disturbed:
    """A training that ended after a fault."""

    training: Followed
    at: float
    """Time of the fault, seconds since 1970."""
    lacking: str = ""
    """Fault besides the numbers, in words; empty = none."""


def require_end(training: Followed) -> None:
    """Let a training end; RuntimeError when it fails."""
    if training.wait() != 0:
        raise RuntimeError(f"the training ended early: {training.last_line()} ({training.log})")


def _begun(training: Followed, stack: ExitStack, every: int) -> Followed:
    """The training at work, between two of its saves; the stack ends it."""
    stack.callback(training.close)
    training.start()
    training.until_between_saves(every)
    return training


def lose_worker(scratch: Scratch, stack: ExitStack) -> Disturbed:
    """Kill -9 of one of the processes that train."""
    training = _begun(scratch.training("worker", 2, UNTRACKED), stack, scratch.every)
    at, found = time.time(), workers(training.family())
    if not found:
        raise RuntimeError(f"no process of {training.run.name} trains: see {training.log}")
    kill(found[:1])
    require_end(training)
    return Disturbed(training=training, at=at)


def lose_driver(scratch: Scratch, stack: ExitStack) -> Disturbed:
    """Kill -9 of the command; it is typed again."""
    training = _begun(scratch.training("driver", 1, UNTRACKED), stack, scratch.every)
    family, at = training.family(), time.time()
    kill(family[-1:])
    stack.callback(kill, family)
    training.start()
    require_end(training)
    return Disturbed(training=training, at=at)


def lose_node(scratch: Scratch, stack: ExitStack, *, notice_s: float = 0.0) -> Disturbed:
    """End of a node with a worker on it, a spare one beside it; after a notice, if one is given."""
    # No token: whoever made one would have to lend it to a cluster that lives for minutes.
    stack.enter_context(variables({"RAY_AUTH_MODE": "disabled"}))
    cluster = LocalNodes(nodes=3, cpus=2)
    stack.callback(cluster.close)
    name, more = "spot" if notice_s else "node", ("--cluster.cpus-per-worker", "1.5", UNTRACKED)
    training = scratch.training(name, 2, *more, RAY_ADDRESS=cluster.address)
    _begun(training, stack, scratch.every)
    node, at = cluster.in_use(), time.time()
    if notice_s:
        cluster.warn(node, notice_s)
        time.sleep(notice_s)
    lacking = "" if training.ended() is None else "the run ended before the node did: give --steps"
    cluster.lose(node)
    require_end(training)
    return Disturbed(training=training, at=at, lacking=lacking)


def lose_storage(scratch: Scratch, stack: ExitStack) -> Disturbed:
    """An S3 server that refuses connections for AWAY_S seconds in the middle of a training."""
    from unite.drivers.stumbling import Stumbling, local_s3

    bucket, server = stack.enter_context(local_s3())
    proxy = stack.enter_context(Stumbling(server))
    login = {"AWS_ACCESS_KEY_ID": "drill", "AWS_SECRET_ACCESS_KEY": "drill"}
    places = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"), proxy.url)
    there = {**places, "AWS_DEFAULT_REGION": "us-east-1", **login}
    stack.enter_context(variables(there))
    scratch = replace(scratch, storage=f"{bucket}/runs", environment=there)
    more = ("--cluster.max-failures", "0", UNTRACKED)  # it costs no restart
    training = _begun(scratch.training("storage", 1, *more), stack, scratch.every)
    at = time.time()
    proxy.mode = "refuse"
    time.sleep(AWAY_S)
    proxy.mode = ""
    require_end(training)
    return Disturbed(training=training, at=at)


def lose_tracking(scratch: Scratch, stack: ExitStack) -> Disturbed:
    """Kill -9 of the MLflow server in the middle of a training; what it missed is pushed later."""
    server = Server(scratch.folder)
    stack.callback(server.close)
    server.start()
    stack.enter_context(variables({"MLFLOW_TRACKING_URI": server.uri}))
    training = _begun(scratch.training("tracking", 1), stack, scratch.every)
    at = time.time()
    server.close()
    require_end(training)
    server.start()
    tracking.push_spool(training.run.path())
    return Disturbed(training=training, at=at, lacking=_untracked(training.run))


def _untracked(run: Store) -> str:
    """The points of a run that MLflow lacks, in words; empty when it has all."""
    record = read_record(run)
    handle = tracking.RunHandle(record["mlflow_uri"], record["mlflow_run_id"])
    logged: dict[str, set[int]] = {}
    for row in read_metrics(run):
        for name in set(row) - {"images"}:
            logged.setdefault(tracking.shown_name(name), set()).add(int(row["images"]))
    there = {name: {step for step, _ in tracking.metric_history(handle, name)} for name in logged}
    lacking = sum(len(steps - there[name]) for name, steps in logged.items())
    total = sum(map(len, logged.values()))
    return f"MLflow lacks {lacking:,} of {count(total, 'point')}" if lacking else ""


@contextmanager
def variables(values: Mapping[str, str]) -> Iterator[None]:
    """Context in which this process's environment has these variables."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({name: value} if value is not None else {})
