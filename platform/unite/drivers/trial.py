"""One trial of a sweep: it trains its run, measures it and keeps the results in the run's folder.

Work that an earlier attempt finished is found and kept, down to the last checkpoint.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unite import tracking
from unite.ablation.results import Result, is_trained, mark_trial, read_result, write_result
from unite.ablation.roles import LATENT_STD
from unite.ablation.trials import Sweep, Trial, TrialGroup
from unite.checkpoints.lease import hold
from unite.checkpoints.store import checkpoint_digest, latest, read_state
from unite.cluster.connect import CapacityError, describe_cluster
from unite.cluster.losses import OWN_ERRORS
from unite.cluster.pool import WorkError
from unite.cluster.resources import TrialLayout
from unite.cluster.train import TrackerFactory, fit, set_threads, train_rank
from unite.cluster.tune import NO_ROOM, beside_trial
from unite.config.serialise import diff
from unite.data.loader import local_reader
from unite.domains import build_domain
from unite.drivers.evaluate import evaluate
from unite.drivers.sweep_runs import training_run
from unite.drivers.train import open_tracker, prepare, with_whole_checkpoint
from unite.evaluation.arguments import AUTO, EvaluateArguments
from unite.evaluation.request import open_evaluation
from unite.evaluation.results import Outcome
from unite.logs import show_worker_warnings
from unite.metrics.errors import MetricError
from unite.network import persist
from unite.objects import is_away
from unite.runs import STOP_FILE
from unite.storage import StorageError, Store
from unite.training.flops import training_flops
from unite.training.parallelize import World
from unite.training.runs import Run, begin, open_run
from unite.training.setup import Job

logger = logging.getLogger(__name__)

STOPPED = "stopped"
FINISHED = "finished"
MEASURED = ("generation", "reconstruction")
"""Suites of a trial."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """Plain data that all trials of a sweep share."""

    sweep: Sweep
    parent: tracking.RunHandle | None
    """The sweep's run in MLflow; None = nothing is tracked."""
    layout: TrialLayout
    login: tracking.Login


def run_trial(
    config: Mapping[str, str], *, works: Mapping[str, TrialGroup], context: Context
) -> dict[str, str]:
    """The trainable: train and measure the run `config["work"]`.

    Errors of the run itself would only repeat, so they are returned; others, and a storage that was
    away, let Tune try again.
    """
    work = works[config["work"]]
    show_worker_warnings(f"{context.sweep.label(work.trials[0])}: ")
    try:
        return {"state": _run(work, context)}
    except OWN_ERRORS as error:
        if is_away(error) and _answers_again(work, context):
            raise
        return {"state": "failed", "error": str(error)}
    except CapacityError as error:
        return {"state": NO_ROOM, "error": str(error)}


def _answers_again(work: TrialGroup, context: Context) -> bool:
    """True once the storage answers; False when it stays away for `checkpoint.patience_s`."""
    label = context.sweep.label(work.trials[0])
    try:
        persist(
            context.sweep.folder.exists,
            work.config.checkpoint.patience_s,
            passing=is_away,
            doing=f"the trial {label}",
        )
    except StorageError:
        return False
    return True


def _run(work: TrialGroup, context: Context) -> str:
    run = prepare(work.config, resume="auto", allow_changes=False)
    seconds = {}
    if not is_trained(run):
        started = time.monotonic()
        if _train(run, work, context)["stopped"]:
            return STOPPED
        if run.resume_from is None:  # else it is the time of a part
            seconds["training"] = time.monotonic() - started
        run = open_run(work.config)
    for trial in work.trials:
        if _stop_asked(context):
            return STOPPED
        if read_result(run, trial) is None:
            write_result(run, trial, _measure_somewhere(run, trial, context.layout, seconds))
    return FINISHED


def _stop_asked(context: Context) -> bool:
    return context.sweep.folder.exists(STOP_FILE)


def _train(run: Run, work: TrialGroup, context: Context) -> dict[str, Any]:
    """Train as the run's driver, once the last one has ended."""
    with hold(run.folder, "driver"):
        return _train_alone(with_whole_checkpoint(run), work, context)


def _train_alone(run: Run, work: TrialGroup, context: Context) -> dict[str, Any]:
    begin(run)  # this forgets an old request to stop, so a new one is looked for afterwards
    if _stop_asked(context):
        return {"stopped": True}
    mark_trial(run, context.sweep.name)
    handle = _start_tracking(work, context)
    spool = tracking.spool_folder(run.folder)
    factory = functools.partial(open_tracker, handle, run.folder, context.login)
    job = Job.of(run, owner=context.sweep.folder.uri)
    status = "FAILED"
    try:
        summary = _fit(job, context.layout, factory)
        status = "KILLED" if summary["stopped"] else "FINISHED"
        return summary
    finally:
        if handle is not None:
            tracking.finish_run(handle, status, spool=spool)


def _fit(job: Job, layout: TrialLayout, factory: TrackerFactory) -> dict[str, Any]:
    if layout.group is not None:
        return fit(job, layout.group, factory)
    set_threads(1, 1)  # what the trial reserves
    return train_rank(job, World(), factory, local_reader)


def _measure_somewhere(
    run: Run, trial: Trial, layout: TrialLayout, seconds: Mapping[str, float]
) -> Result:
    """`measure` here, or where its workers may take more than the trial has reserved."""
    if layout.group is None:
        return measure(run, trial, 0, seconds)
    return beside_trial(measure, run, trial, layout.group.num_workers, seconds)


def measure(run: Run, trial: Trial, workers: int, seconds: Mapping[str, float]) -> Result:
    """Distances of samples, and held-out reconstruction, of a run's last checkpoint.

    A collapsed model's samples cannot be measured; that is a result too, with the reason in it.
    """
    folder = latest(run.folder)
    if folder is None:
        raise ValueError(f"{run.folder} has no committed checkpoint to measure")
    state, started = read_state(folder, "metrics"), time.monotonic()
    latent_std, remarks, cards = state["metrics"]["latent/std"], [], {}
    try:
        outcomes = _evaluate(run, trial, folder, workers)
        cards = {
            f"eval/{outcome.suite}/{row.card.metric}": row.card
            for outcome in outcomes
            for row in outcome.rows
        }
        metrics = {name: card.value for name, card in cards.items()}
        remarks += [remark for outcome in outcomes for remark in outcome.remarks]
    except (MetricError, WorkError) as error:
        if latent_std >= run.config.training.collapse_std:
            raise
        quality = build_domain(run.config.domain).best_metric
        metrics = {f"eval/reconstruction/{quality}": state["metrics"][f"eval/{quality}"]}
        remarks.append(f"no distances: {error}")
    return Result(
        metrics={**metrics, LATENT_STD: latent_std},
        images=state["images"],
        parameters=trial.parameters,
        flops=training_flops(run.config).total * state["images"],
        checkpoint=checkpoint_digest(folder),
        remarks=tuple(remarks),
        cards={name: card.to_dict() for name, card in cards.items()},
        seconds={**seconds, "measuring": time.monotonic() - started},
    )


def _evaluate(run: Run, trial: Trial, folder: Store, workers: int) -> list[Outcome]:
    sampling = trial.protocol.sampling
    arguments = EvaluateArguments(
        run=folder.uri,
        suite=MEASURED,
        storage=run.config.storage,
        num_samples=trial.protocol.num_samples,
        num_images=trial.protocol.num_images,
        **{name: new for name, _, new in diff(run.config.sampling, sampling)},
        extractor=trial.protocol.extractors or AUTO,
        num_workers=workers,
        use_gpu=run.config.cluster.use_gpu,
        weights=run.config.weights,
    )
    return evaluate(open_evaluation(arguments, run.config.storage))


def _start_tracking(work: TrialGroup, context: Context) -> tracking.RunHandle | None:
    """The training's run in MLflow; a server that is away costs no run: its curves are kept."""
    if context.parent is None:
        return None
    try:
        return training_run(context.sweep, context.parent, work, describe_cluster())
    except tracking.TrackingError as error:
        logger.warning(
            "%s is not in MLflow, the same command sends its curves later: %s", work.digest, error
        )
        return None
