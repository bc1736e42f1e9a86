"""The grid of a sweep under Ray Tune: capacity, placement, and a guard against endless waiting.

One rule decides where a trial trains. A run of one worker without a GPU trains inside its trial,
which reserves one CPU: it starts in seconds, and as many trials run at once as there are CPUs.
Every other run trains in a Ray Train worker group beside its trial, which then reserves next to
nothing, so that trials never hold what their own workers need.

Tune only schedules. Finished work is known from the storage, so a killed driver, or another one,
starts the grid afresh and finds the rest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from unite.cluster.connect import (
    DATA_CPUS,
    Allotment,
    CapacityError,
    Node,
    admit,
    allot,
    nodes,
    places,
)
from unite.config.schema import ClusterConfig

T = TypeVar("T")

TRIAL_CPUS = 0.01
"""CPUs of a trial that only watches its workers; Ray refuses 0."""
NO_ROOM = "no room"
"""State of a trial whose workers did not get their resources."""
SWEEP_CURE = "Lower --workers, choose another --scale, or set --wait-s for an autoscaling cluster."
"""Advice on a sweep's flags when the cluster is too small."""


class GridError(RuntimeError):
    """Ray ended the grid by itself; the results of finished trials are kept."""


@dataclass(frozen=True, kw_only=True)
class Admission:
    """Placement of a sweep on the cluster."""

    concurrent: int
    """Number of trials that run at once."""
    trial_cpus: float
    """CPUs that each trial reserves for itself."""
    allotment: Allotment | None = None
    """Resources of the worker group beside each trial; None = the trial itself trains."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of the grid, as Tune and the watcher know it."""

    key: str
    """Identity: the digest of the run."""
    label: str
    folder: str
    """Folder of the run."""


def trains_inside(config: ClusterConfig) -> bool:
    """True if the run trains inside its trial: one worker, no GPU."""
    return config.num_workers == 1 and not config.use_gpu


def admit_trials(config: ClusterConfig) -> Admission:
    """Lay trials over the joined cluster; CapacityError when not even one fits.

    Waits up to `cluster.wait_s` for an autoscaling cluster to grow.
    """
    allotment = admit(config, SWEEP_CURE)
    return lay_out(config, nodes(), allotment)


def check_capacity(config: ClusterConfig, have: Sequence[Node]) -> Admission:
    """The same without waiting, on nodes that are known."""
    return lay_out(config, have, allot(config, have, SWEEP_CURE))


def lay_out(config: ClusterConfig, have: Sequence[Node], allotment: Allotment) -> Admission:
    """The pure rule of placement: `have` holds the total resources of each node."""
    if trains_inside(config):
        concurrent = sum(int(node["CPU"]) for node in have)
        if concurrent < 1:
            raise CapacityError(
                "a trial of one worker needs a whole CPU, and no node of the cluster has one: it "
                f"would wait for ever. {SWEEP_CURE}"
            )
        return Admission(concurrent=concurrent, trial_cpus=1.0)
    # The allotment already left room for Ray Data, once; every trial has readers of its own.
    each = allotment.num_workers * allotment.cpus_per_worker + DATA_CPUS + TRIAL_CPUS
    by_cpus = int(sum(node["CPU"] for node in have) / each)
    concurrent = max(1, min(by_cpus, places(allotment, have) // allotment.num_workers))
    return Admission(concurrent=concurrent, trial_cpus=TRIAL_CPUS, allotment=allotment)


def run_grid(
    items: Sequence[Item],
    trainable: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    admission: Admission,
    watcher: Any,
    *,
    folder: str,
    max_failures: int,
) -> None:
    """Run `trainable({"work": key}, **arguments)` for every item; the watcher hears how each ended.

    A trial whose process dies is started again up to `max_failures` times, and continues from its
    run's last checkpoint. CapacityError when no trial can start, GridError when Ray gives up.
    """
    # The driver's own handlers ask runs to save and end; Tune's would kill them.
    os.environ["TUNE_DISABLE_SIGINT_HANDLER"] = "1"
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the one that verbose=0 silences
    os.environ["TUNE_DISABLE_AUTO_CALLBACK_LOGGERS"] = "1"  # results are in the runs
    # It misses the trials' result files, which are switched off above.
    logging.getLogger("ray.tune.analysis").setLevel(logging.ERROR)
    from ray import tune
    from ray.exceptions import RayError
    from ray.tune import TuneError

    tuner = tune.Tuner(
        tune.with_resources(
            tune.with_parameters(trainable, **arguments), {"cpu": admission.trial_cpus}
        ),
        param_space={"work": tune.grid_search([item.key for item in items])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=admission.concurrent,
            # The next trial finds torch imported already.
            reuse_actors=True,
            trial_name_creator=_trial_name,
            trial_dirname_creator=_trial_name,
        ),
        run_config=tune.RunConfig(
            name="ray-tune",
            storage_path=folder,
            verbose=0,
            callbacks=[watcher],
            failure_config=tune.FailureConfig(max_failures=max_failures),
        ),
    )
    try:
        tuner.fit()
    except (TuneError, RayError) as error:
        raise GridError(
            f"Ray gave up: {' '.join(str(error).split())[-500:]}. The same command goes on "
            "from here."
        ) from error


def beside_trial(work: Callable[..., T], *arguments: Any) -> T:
    """Result of `work` in a task outside the calling trial's reservation; its errors are raised.

    Tune keeps what a trial starts inside the trial's own reservation, where further workers would
    wait for ever; a task that is scheduled on its own is free of it.
    """
    import ray
    from ray.exceptions import RayTaskError

    task = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT", max_retries=0)(work)
    try:
        return ray.get(task.remote(*arguments))
    except RayTaskError as error:
        raise error.cause from error  # the message alone, without Ray's traceback


def _trial_name(trial: Any) -> str:
    return f"trial-{trial.config['work']}"
