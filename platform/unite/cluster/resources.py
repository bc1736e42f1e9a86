"""Resources of a cluster, and the rules by which workers and trials are laid out over its nodes.

A rule is pure: it takes the total resources of each node and returns a layout, or raises
CapacityError with the shortage and the flags that help. `wait_for` applies one to the joined
cluster, and waits for an autoscaling one to grow.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import TypeVar

from unite.cluster.connect import CapacityError, Node, connect, is_private, nodes
from unite.config.schema import ClusterConfig
from unite.config.workers import is_range, most_workers, sizes
from unite.evaluation.arguments import WorkerArguments
from unite.words import count

T = TypeVar("T")

DATA_CPUS = 0.5
"""CPUs that are left to the tasks that read, and to Ray itself, beside the workers of a run."""
MIN_WORKER_CPUS = 0.5
GPU_WORKER_CPUS = 1.0
"""CPUs of an evaluation worker with a GPU, for decoding and feeding."""
TRIAL_CPUS = 0.01
"""CPUs of a trial that only watches its workers; Ray refuses 0."""
STREAM_BYTES = 512 * 2**20
"""Bytes of a node's object store that the stream of each worker on it takes at most."""
POLL_SECONDS = 1.0
START_SECONDS = 300.0
"""Seconds of waiting for resources that others hold; `cluster.wait_s` is added."""
TRAIN_CURE = (
    "Lower --cluster.num-workers or --cluster.cpus-per-worker, give --cluster.no-use-gpu, or set "
    "--cluster.wait-s for an autoscaling cluster."
)
SWEEP_CURE = "Lower --workers, choose another --scale, or set --wait-s for an autoscaling cluster."


@dataclass(frozen=True, kw_only=True)
class WorkerGroup:
    """Workers of one kind, and the resources that each of them reserves on one node."""

    num_workers: int
    cpus_per_worker: float
    use_gpu: bool
    """True if each has a GPU to itself."""

    @property
    def bundle(self) -> dict[str, float]:
        """Resources of one worker, as Ray names them."""
        return {"CPU": self.cpus_per_worker} | ({"GPU": 1} if self.use_gpu else {})

    @property
    def each(self) -> str:
        """Resources of one worker in words."""
        cpus = count(float(f"{self.cpus_per_worker:.2g}"), "CPU")
        return f"{cpus}{' and a GPU' if self.use_gpu else ''}"

    def fits(self, have: Sequence[Node]) -> int:
        """Number of such workers that the nodes hold, each worker on one node."""
        return sum(
            min(int(node[kind] / amount) for kind, amount in self.bundle.items()) for node in have
        )


@dataclass(frozen=True, kw_only=True)
class TrialLayout:
    """Trials of a sweep side by side on the cluster."""

    concurrent: int
    """Number of trials that run at once."""
    trial_cpus: float
    """CPUs that each trial reserves for itself."""
    group: WorkerGroup | None = None
    """Workers beside each trial; None = the trial itself trains."""


def train_workers(
    config: ClusterConfig, have: Sequence[Node], cure: str = TRAIN_CURE, *, batch_size: int = 0
) -> WorkerGroup:
    """Rule of training: CPUs are shared so that Ray Data keeps some. `cure` says what helps.

    Of a range of workers it takes the largest number that fits and divides `batch_size`.
    """
    fitting = sizes(config, batch_size)
    for workers in reversed(fitting[1:]):
        with suppress(CapacityError):
            return _group_of(workers, config, have, cure)
    return _group_of(fitting[0], config, have, cure)


def _group_of(workers: int, config: ClusterConfig, have: Sequence[Node], cure: str) -> WorkerGroup:
    """A group of so many workers; CapacityError when the nodes do not hold it."""
    cpus, gpus = _totals(have)
    wanted = count(workers, "worker")
    if config.use_gpu and gpus < workers:
        raise CapacityError(
            f"{wanted} with one GPU each, but the cluster has {count(gpus, 'GPU')}. {cure}"
        )
    free = cpus - DATA_CPUS
    share = config.cpus_per_worker or min(1.0, free / workers)
    group = WorkerGroup(num_workers=workers, cpus_per_worker=share, use_gpu=config.use_gpu)
    if share < MIN_WORKER_CPUS and not config.cpus_per_worker or share * workers > free:
        most = max(int(free / (config.cpus_per_worker or MIN_WORKER_CPUS)), 0)
        raise CapacityError(
            f"{wanted} at {count(float(f'{share:.2g}'), 'CPU')} each and {DATA_CPUS} for Ray Data, "
            f"but the cluster has {count(cpus, 'CPU')}: it would wait for ever. At most "
            f"{count(most, 'worker')} can start. {cure}"
        )
    if (fitting := group.fits(have)) < workers:
        sizes = ", ".join(_words(*_totals([node])) for node in have)
        raise CapacityError(
            f"{wanted} at {group.each} each: a worker lives on one node, and these hold {fitting} "
            f"of them: {sizes}. {cure}"
        )
    return group


def streams(config: ClusterConfig, node: Node) -> tuple[int, int]:
    """Most workers of a run that a node holds, and bytes that their streams take of its store."""
    each = 1.0 if config.use_gpu else config.cpus_per_worker or MIN_WORKER_CPUS
    room = int(node["GPU" if config.use_gpu else "CPU"] / each)
    workers = min(most_workers(config), room)
    return workers, workers * STREAM_BYTES


def pool_workers(asked: WorkerArguments, have: Sequence[Node]) -> WorkerGroup:
    """Rule of evaluation: a number that is given, else one per GPU with `use_gpu`, else per CPU."""
    unit, (cpus, gpus) = "GPU" if asked.use_gpu else "CPU", _totals(have)
    group = WorkerGroup(num_workers=1, cpus_per_worker=GPU_WORKER_CPUS, use_gpu=asked.use_gpu)
    most = group.fits(have)
    workers = asked.num_workers or most
    if workers > most or most < 1:
        raise CapacityError(
            f"--num-workers {asked.num_workers or 'one'} with one {unit} each, but the cluster has "
            f"{count(gpus, 'GPU')} and {count(cpus, 'CPU')}: it would wait for ever. "
            + ("Lower --num-workers" if most else "Drop --use-gpu, or use --num-workers 0")
            + ", or set --wait-s for an autoscaling cluster."
        )
    return WorkerGroup(
        num_workers=workers, cpus_per_worker=group.cpus_per_worker, use_gpu=asked.use_gpu
    )


def trains_inside(config: ClusterConfig) -> bool:
    """True if a run of a sweep trains inside its trial: one worker, no GPU.

    Such a trial reserves one CPU: it starts in seconds, and as many run at once as there are CPUs.
    Every other run trains in a worker group beside its trial, which then reserves next to nothing,
    so that trials never hold what their own workers need.
    """
    return most_workers(config) == 1 and not config.use_gpu


def trial_layout(config: ClusterConfig, have: Sequence[Node]) -> TrialLayout:
    """Rule of a sweep: as many trials as fit beside each other; a number of workers, no range."""
    if is_range(config):
        raise CapacityError(
            f"cluster.num_workers = {config.num_workers}: the trials of a sweep have a number of "
            f"workers, not a range. {SWEEP_CURE}"
        )
    group = train_workers(config, have, SWEEP_CURE)
    if trains_inside(config):
        concurrent = sum(int(node["CPU"]) for node in have)
        if concurrent < 1:
            raise CapacityError(
                "a trial of one worker needs a whole CPU, and no node of the cluster has one: it "
                f"would wait for ever. {SWEEP_CURE}"
            )
        return TrialLayout(concurrent=concurrent, trial_cpus=1.0)
    return beside_each_other(group, have)


def beside_each_other(group: WorkerGroup, have: Sequence[Node]) -> TrialLayout:
    """Trials of one worker group each, with Ray Data's readers for every one of them."""
    each = group.num_workers * group.cpus_per_worker + DATA_CPUS + TRIAL_CPUS
    concurrent = max(1, min(int(_totals(have)[0] / each), group.fits(have) // group.num_workers))
    return TrialLayout(concurrent=concurrent, trial_cpus=TRIAL_CPUS, group=group)


def wait_for(rule: Callable[[Sequence[Node]], T], wanted: ClusterConfig | WorkerArguments) -> T:
    """Layout of a rule on the joined cluster, which may take `wanted.wait_s` seconds to grow."""
    deadline = time.monotonic() + wanted.wait_s
    with asked_of_autoscaler(wanted) if wanted.wait_s else nullcontext():
        while True:
            try:
                return rule(nodes())
            except CapacityError:
                if time.monotonic() >= deadline:
                    raise
                time.sleep(POLL_SECONDS)


@contextmanager
def asked_of_autoscaler(wanted: ClusterConfig | WorkerArguments) -> Iterator[None]:
    """Context in which an autoscaling cluster keeps nodes for all that is wanted; without it, those
    that are idle go."""
    from ray.autoscaler.sdk import request_resources

    if isinstance(wanted, ClusterConfig):
        cpus, workers = wanted.cpus_per_worker, most_workers(wanted)
    else:
        cpus, workers = 0.0, wanted.num_workers
    bundle: dict[str, float] = {"CPU": cpus or 1} | ({"GPU": 1} if wanted.use_gpu else {})
    request_resources(bundles=[bundle] * (workers or 1) + [{"CPU": 1}])
    try:
        yield
    finally:
        request_resources(bundles=[])


def reachable_nodes() -> list[Node]:
    """The nodes of the cluster that `connect` joins, or of the one that it would start."""
    import ray

    from unite.training.memory import usable_gpus

    if ray.is_initialized() or not is_private():
        connect()
        return nodes()
    return [{"CPU": float(os.cpu_count() or 1), "GPU": float(usable_gpus())}]


def free_resources() -> str:
    """Free resources in words, for messages."""
    import ray

    free = ray.available_resources()
    return f"{_words(free.get('CPU', 0), free.get('GPU', 0))} free"


def _totals(have: Sequence[Node]) -> tuple[float, float]:
    cpus, gpus = (sum(node[kind] for node in have) for kind in ("CPU", "GPU"))
    return cpus, gpus


def _words(cpus: float, gpus: float) -> str:
    return f"{count(cpus, 'CPU')} and {count(gpus, 'GPU')}"
