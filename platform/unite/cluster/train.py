"""Train under Ray Train: one worker per data-parallel rank, restarted from the last checkpoint.

Nothing is reported to Ray per step (a report waits for the controller's poll). Checkpoints are the
run's own, so a restarted group, another driver or another number of workers continues alike.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from unite.checkpoints.store import CheckpointError, latest
from unite.cluster.connect import Allotment
from unite.cluster.gauges import with_gauges
from unite.storage import StorageError
from unite.training.loop import NonFiniteError, Tracker
from unite.training.setup import Job

logger = logging.getLogger(__name__)

# What a run raises about itself: repeating it would end the same way.
OWN_ERRORS = (ValueError, NonFiniteError, CheckpointError, StorageError)


class TrainingError(RuntimeError):
    """The run cannot go on; the message is the worker's own."""


TrackerFactory = Callable[[bool, int], Tracker]
"""Makes the tracker of a rank from whether it is rank 0 and the images seen at the start."""


def fit(job: Job, allotment: Allotment, tracker_factory: TrackerFactory) -> dict[str, Any]:
    """Run a job on the joined cluster and return rank 0's summary.

    A lost worker (killed, out of memory, node gone) restarts the group up to
    `cluster.max_failures` times; an error of the run itself would only repeat, and is raised at
    once as TrainingError.
    """
    from ray.train import WorkerGroupError

    restarts = job.config.cluster.max_failures
    for attempt in range(restarts + 1):
        try:
            return _trainer(job, allotment, tracker_factory).fit().return_value
        except WorkerGroupError as error:
            reason = _own_error(error.worker_failures.values())
            if reason is not None:
                raise TrainingError(reason) from error
            if attempt == restarts:
                raise
            logger.warning(
                "a worker was lost (%s); restarting from the last checkpoint, %d of %d",
                type(next(iter(error.worker_failures.values()), error)).__name__,
                attempt + 1,
                restarts,
            )
    raise AssertionError("unreachable")


def _trainer(job: Job, allotment: Allotment, tracker_factory: TrackerFactory) -> Any:
    from ray.train import LoggingConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    return TorchTrainer(
        _worker,
        train_loop_config={"job": job, "tracker_factory": tracker_factory},
        scaling_config=ScalingConfig(
            num_workers=allotment.num_workers,
            use_gpu=allotment.use_gpu,
            resources_per_worker={"CPU": allotment.cpus_per_worker}
            | ({"GPU": 1} if allotment.use_gpu else {}),
        ),
        run_config=RunConfig(
            name="ray-train",
            storage_path=job.folder.uri,
            logging_config=LoggingConfig(log_level="WARNING"),
        ),
    )


def _own_error(failures: Iterable[BaseException]) -> str | None:
    """The message of the first failure that the run itself raised, if any."""
    for failure in failures:
        cause: BaseException | None = failure
        while cause is not None:
            if isinstance(cause, OWN_ERRORS):
                return str(cause)
            cause = getattr(cause, "_base_exc", None) or cause.__cause__
    return None


def _worker(settings: dict[str, Any]) -> dict[str, Any]:
    """One rank: build, restore, train, close. Returns the summary."""
    from ray.train.torch import get_device

    from unite.cluster.stream import ray_reader
    from unite.training.parallelize import World
    from unite.training.setup import build_trainer

    job: Job = settings["job"]
    world = World.current(get_device())
    set_threads(job.config.cluster.threads_per_worker, world.size)
    # A restarted group continues from what was saved since the driver looked.
    newest = latest(job.folder)
    job = replace(job, resume_from=newest or job.resume_from)
    images = int(job.resume_from.name) if job.resume_from else 0
    tracker = settings["tracker_factory"](world.is_main, images)
    if world.is_main:
        tracker = with_gauges(tracker, job.folder.name)
    trainer = build_trainer(job, world, tracker, ray_reader)
    try:
        return trainer.run()
    finally:
        trainer.stream.close()
        tracker.close()


def set_threads(threads: int, workers: int) -> None:
    """Use `threads` for arithmetic; 0 shares this machine's cores among its workers.

    Ray sets one thread for small requests. Bits of a sum depend on the number of threads.
    """
    import torch

    torch.set_num_threads(threads or max(1, (os.cpu_count() or 1) // workers))
