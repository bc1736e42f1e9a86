"""The grid of a sweep under Ray Tune.

Tune only schedules. Finished work is known from the storage, so a killed driver, or another one,
starts the grid afresh and finds the rest.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from unite.cluster.resources import TrialLayout

T = TypeVar("T")

NO_ROOM = "no room"
"""State of a trial whose workers did not get their resources."""


class GridError(RuntimeError):
    """Ray ended the grid by itself; the results of finished trials are kept."""


@dataclass(frozen=True, kw_only=True)
class Item:
    """One entry of the grid, as Tune and the watcher know it."""

    key: str
    """Identity: the digest of the run."""
    label: str
    folder: str
    """Folder of the run."""


def run_grid(
    items: Sequence[Item],
    trainable: Callable[..., dict[str, Any]],
    arguments: dict[str, Any],
    layout: TrialLayout,
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
            tune.with_parameters(trainable, **arguments), {"cpu": layout.trial_cpus}
        ),
        param_space={"work": tune.grid_search([item.key for item in items])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=layout.concurrent,
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
