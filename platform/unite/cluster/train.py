"""Train under Ray Train: one worker per data-parallel rank, restarted from the last checkpoint.

Nothing is reported to Ray per step (a report waits for the controller's poll). Checkpoints are the
run's own, so a restarted group, another driver or another number of workers continues from them.

One step agrees between numbers of workers to rounding; a whole run does not, because training
amplifies rounding (docs/METHOD.md, section 3).
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from socket import gethostname
from typing import Any

from unite.checkpoints.lease import Lease, hold
from unite.checkpoints.repair import latest_whole
from unite.cluster.connect import ENVIRONMENT, CapacityError
from unite.cluster.elastic import RoomWatch, next_group, own_group
from unite.cluster.failures import is_controller_lost
from unite.cluster.gauges import with_gauges
from unite.cluster.losses import (
    Losses,
    Outage,
    TrainingError,
    own_error,
    reason_of_loss,
)
from unite.cluster.preemption import is_preempted, notice
from unite.cluster.resources import (
    START_SECONDS,
    WorkerGroup,
    asked_of_autoscaler,
    free_resources,
)
from unite.config.workers import is_range
from unite.storage import Store
from unite.training.interruptions import note_ended, note_left_behind
from unite.training.loop import Tracker
from unite.training.parallelize import World
from unite.training.requests import Notice, Source, no_notice, nothing
from unite.training.setup import Job, build_trainer
from unite.training.watchdog import note_nodes, watched
from unite.words import count

logger = logging.getLogger(__name__)

START_TIMEOUT = "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S"

TrackerFactory = Callable[[bool, int], Tracker]
"""Maker of a rank's tracker: (True for rank 0, images seen at the start) -> tracker."""


def fit(job: Job, group: WorkerGroup, tracker_factory: TrackerFactory) -> dict[str, Any]:
    """Run a job on the joined cluster and return rank 0's summary.

    A lost worker (killed, out of memory, node gone) restarts the group inside Ray Train's
    controller (`cluster/restarts.py`), `cluster.max_failures` times in a row without a new
    checkpoint. A group that leaves to grow, or a node of which notice was given, or that is cut off
    there, costs none of these: a new controller starts the next one.
    An error of the run itself would only repeat, and is raised at once as TrainingError.
    CapacityError when others hold what the workers need for too long.
    """
    if not is_range(job.config.cluster):
        return _fit(job, lambda: group, tracker_factory)
    with asked_of_autoscaler(job.config.cluster):
        return _fit(job, lambda: next_group(job.config, _patience(job)), tracker_factory)


def _fit(
    job: Job, next_group: Callable[[], WorkerGroup], tracker_factory: TrackerFactory
) -> dict[str, Any]:
    """Start controllers until a group comes to the end of the run."""
    from ray.exceptions import RayActorError
    from ray.train import ControllerError, WorkerGroupError
    from ray.train.v2.api.exceptions import PreemptionError

    losses, outage = Losses(job), Outage(job)
    note_left_behind(job.folder)
    while True:
        group = next_group()
        try:
            summary = _trainer(job, group, tracker_factory).fit().return_value
        except (ControllerError, WorkerGroupError, PreemptionError, RayActorError) as error:
            reason = "cut off after a notice"
            if is_preempted(error):
                logger.warning("the workers were lost with a node whose end was told: restarting")
            elif outage.over(error):
                reason = "storage away"
            else:
                reason = reason_of_loss(job)
                _raise_own(error, job, group)
                losses.charge(error)
        else:
            if not summary["leaving"]:
                return summary
            reason = "left"
            logger.warning("saved after %d images; another group goes on", summary["images"])
        note_ended(job.folder, reason)


def _raise_own(error: Exception, job: Job, group: WorkerGroup) -> None:
    """Raise what another try would only repeat."""
    if (reason := own_error(error)) is not None:
        raise TrainingError(reason) from error
    failure = getattr(error, "controller_failure", None)
    if isinstance(failure, CapacityError):
        raise failure from error
    if failure is not None and type(failure).__name__.startswith("WorkerGroupStartup"):
        raise _no_room(job, group, failure) from error
    if failure is not None and not is_controller_lost(error):
        raise TrainingError(f"Ray Train gave up: {failure}") from error


def _trainer(job: Job, group: WorkerGroup, tracker_factory: TrackerFactory) -> Any:
    from ray.train import FailureConfig, LoggingConfig, RunConfig, ScalingConfig

    from unite.cluster.restarts import RestartingTrainer

    return RestartingTrainer(
        _worker,
        job=job,
        patience_s=_patience(job),
        train_loop_config={"job": job, "tracker_factory": tracker_factory},
        scaling_config=ScalingConfig(
            num_workers=group.num_workers,
            use_gpu=group.use_gpu,
            resources_per_worker=group.bundle,
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=job.folder.uri,
            logging_config=LoggingConfig(log_level="WARNING"),
            # Ray's own default is to ask for resources that others hold for ever.
            failure_config=FailureConfig(
                controller_failure_limit=_more_starts(job),
                max_preemption_failures=0,  # the driver restarts
            ),
        ),
    )


def _patience(job: Job) -> float:
    """Seconds that workers may take to start."""
    return START_SECONDS + job.config.cluster.wait_s


def _more_starts(job: Job) -> int:
    """Starts after the first one, each of which Ray Train gives up after a while of its own."""
    each = float(os.environ.get(START_TIMEOUT, ENVIRONMENT[START_TIMEOUT]))
    return math.ceil(_patience(job) / each) - 1


def _no_room(job: Job, group: WorkerGroup, reason: Exception) -> CapacityError:
    """Error for workers that did not get their resources."""
    return CapacityError(
        f"the {count(group.num_workers, 'worker')} of {job.folder.name} did not start within "
        f"{_patience(job):.0f} s: each needs {group.each} on one node, and the cluster has "
        f"{free_resources()} ({' '.join(str(reason).split())[:200]}). Wait for other jobs, or for "
        "lost nodes to come back; the same command goes on from here."
    )


def _worker(settings: dict[str, Any]) -> dict[str, Any]:
    """One rank of a Ray Train worker group. Returns the summary."""
    from ray.train.torch import get_device

    from unite.cluster.stream import ray_reader

    job: Job = settings["job"]
    world = World.current(get_device())
    set_threads(job.config.cluster.threads_per_worker, world.size)
    asks = RoomWatch(job.config, own_group(world.size)) if world.is_main else nothing
    return train_rank(job, world, settings["tracker_factory"], ray_reader, notice, asks)


def train_rank(
    job: Job,
    world: World,
    tracker_factory: TrackerFactory,
    reader: Callable[..., Any],
    look: Callable[[], Notice | None] = no_notice,
    asks: Source = nothing,
) -> dict[str, Any]:
    """One rank, whoever started it: become the run's writer, build, restore, train, close.

    `look` sees notices that nodes go away, `asks` has what else the cluster asks of the run.
    """
    with hold(job.folder, group=job.token) if world.is_main else nullcontext(Lease()) as lease:
        # A restarted group continues from what was saved since the driver looked: as rank 0 sees
        # it, once it has the run to itself, so that all ranks take the same.
        found = _continued(job) if world.is_main else None
        places, nodes = zip(*world.gather((found and found.uri, gethostname())), strict=True)
        place = places[0]
        if world.is_main:
            note_nodes(job.folder, nodes)
        job = replace(job, resume_from=Store(place) if place else None)
        images = int(job.resume_from.name) if job.resume_from else 0
        tracker = tracker_factory(world.is_main, images)
        if world.is_main:
            tracker = with_gauges(tracker, job.folder.name)
        trainer = build_trainer(job, world, tracker, reader, lease, look, asks)
        try:
            outages = job.config.checkpoint.patience_s  # for as long rank 0 may wait for storage
            with watched(
                job.folder,
                world.rank,
                lambda: trainer.images,
                lambda seconds: world.wait_at_most(seconds + outages),
                world.is_busy,
            ):
                return trainer.run()
        finally:
            trainer.stream.close()
            tracker.close()


def _continued(job: Job) -> Store | None:
    """The checkpoint to go on from: the run's newest whole one, else that of the run it branches
    off from."""
    newest = latest_whole(job.folder, thorough=True)
    other = job.resume_from is not None and not job.resume_from.is_below(job.folder)
    return newest or (job.resume_from if other else None)


def set_threads(threads: int, workers: int) -> None:
    """Use `threads` for arithmetic; 0 shares this machine's cores among its workers.

    Ray sets one thread for small requests. Bits of a sum depend on the number of threads.
    """
    import torch

    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // workers))
