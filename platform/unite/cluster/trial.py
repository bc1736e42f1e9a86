"""What one trial of a sweep does: train its run, measure it, keep the results in the run's folder.

Whatever an earlier attempt finished is found and left alone, down to the last checkpoint.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from unite import tracking
from unite.ablation.results import Result, is_trained, read_result, write_result
from unite.ablation.trials import Sweep, Trial, Work
from unite.ablation.verdict import LATENT_STD, PSNR
from unite.checkpoints.store import STATE_FILE, checkpoint_digest, latest
from unite.cluster.connect import describe_cluster
from unite.cluster.evaluate import evaluate
from unite.cluster.evaluate import prepare as prepare_evaluation
from unite.cluster.fanout import WorkError
from unite.cluster.gauges import with_gauges
from unite.cluster.launch import prepare
from unite.cluster.sweep_runs import spool_of, start_child
from unite.cluster.train import OWN_ERRORS, TrackerFactory, TrainingError, fit, set_threads
from unite.cluster.tune import Admission
from unite.data.loader import local_reader
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.results import Outcome
from unite.metrics.moments import MetricError
from unite.storage import Store
from unite.training.flops import training_flops
from unite.training.parallelize import World
from unite.training.runs import RUN_FILE, STOP_FILE, Run, begin, open_run
from unite.training.setup import Job, build_trainer

logger = logging.getLogger(__name__)

STOPPED = "stopped"
FINISHED = "finished"


@dataclass(frozen=True, kw_only=True)
class Context:
    """What every trial of a sweep shares; plain data."""

    sweep: Sweep
    parent: tracking.RunHandle | None
    """The sweep's run in MLflow; None = nothing is tracked."""
    admission: Admission


def run_trial(
    config: Mapping[str, str], *, works: Mapping[str, Work], context: Context
) -> dict[str, str]:
    """The trainable: train and measure the run `config["work"]`.

    Errors of the run itself would only repeat, so they are returned; others let Tune try again.
    """
    work = works[config["work"]]
    try:
        return {"state": _run(work, context)}
    except (*OWN_ERRORS, TrainingError) as error:
        return {"state": "failed", "error": str(error)}


def _run(work: Work, context: Context) -> str:
    run = prepare(work.config, resume="auto", allow_changes=False)
    seconds = {}
    if not is_trained(run):
        started = time.monotonic()
        if _train(run, work, context)["stopped"]:
            return STOPPED
        seconds["training"] = time.monotonic() - started
        run = open_run(work.config)
    for trial in work.trials:
        if _stop_asked(context):
            return STOPPED
        if read_result(run, trial) is None:
            write_result(run, trial, _measure_somewhere(run, trial, context.admission, seconds))
    return FINISHED


def _stop_asked(context: Context) -> bool:
    return context.sweep.folder.exists(STOP_FILE)


def _train(run: Run, work: Work, context: Context) -> dict[str, Any]:
    begin(run)  # this forgets an old request to stop, so a new one is looked for afterwards
    if _stop_asked(context):
        return {"stopped": True}
    handle = _start_child(run, work, context)
    factory = functools.partial(open_tracker, handle, spool_of(run.folder))
    job = Job(config=run.config, folder=run.folder, resume_from=run.resume_from)
    status = "FAILED"
    try:
        summary = _fit(job, context.admission, factory)
        status = "KILLED" if summary["stopped"] else "FINISHED"
        return summary
    finally:
        if handle is not None:
            tracking.finish_run(handle, status, spool=spool_of(run.folder))


def _fit(job: Job, admission: Admission, factory: TrackerFactory) -> dict[str, Any]:
    if admission.allotment is not None:
        return fit(job, admission.allotment, factory)
    set_threads(1, 1)  # what the trial reserves
    tracker = factory(True, int(job.resume_from.name) if job.resume_from else 0)
    tracker = with_gauges(tracker, job.folder.name)
    trainer = build_trainer(job, World(), tracker, local_reader)
    try:
        return trainer.run()
    finally:
        trainer.stream.close()
        tracker.close()


def _measure_somewhere(
    run: Run, trial: Trial, admission: Admission, seconds: Mapping[str, float]
) -> Result:
    """`measure` here, or where its workers may take more than the trial has reserved.

    Tune keeps what a trial starts inside the trial's own reservation, where evaluation workers
    would wait for ever; a task that is scheduled on its own is free of it.
    """
    if admission.allotment is None:
        return measure(run, trial, 0, seconds)
    import ray

    task = ray.remote(num_cpus=0, scheduling_strategy="DEFAULT", max_retries=0)(measure)
    return ray.get(task.remote(run, trial, admission.allotment.num_workers, seconds))


def measure(run: Run, trial: Trial, workers: int, seconds: Mapping[str, float]) -> Result:
    """Distances of samples, and held-out reconstruction, of a run's last checkpoint.

    A collapsed model's samples cannot be measured; that is a result too, with the reason in it.
    """
    folder = latest(run.folder)
    if folder is None:
        raise ValueError(f"{run.folder} has no committed checkpoint to measure")
    state, started = folder.read_json(STATE_FILE), time.monotonic()
    latent_std, remarks = state["metrics"]["latent/std"], []
    try:
        outcomes = _evaluate(run, trial, folder, workers)
        metrics = {
            f"eval/{outcome.suite}/{row.card.metric}": row.card.value
            for outcome in outcomes
            for row in outcome.rows
        }
        remarks += [remark for outcome in outcomes for remark in outcome.remarks]
    except (MetricError, WorkError) as error:
        if latent_std >= run.config.training.collapse_std:
            raise
        metrics = {PSNR: state["metrics"]["eval/psnr"]}
        remarks.append(f"no distances: {error}")
    return Result(
        metrics={**metrics, LATENT_STD: latent_std},
        images=state["images"],
        parameters=trial.parameters,
        flops=training_flops(run.config).total * state["images"],
        checkpoint=checkpoint_digest(folder),
        remarks=tuple(remarks),
        seconds={**seconds, "measuring": time.monotonic() - started},
    )


def _evaluate(run: Run, trial: Trial, folder: Store, workers: int) -> list[Outcome]:
    sampling = trial.protocol.sampling
    arguments = EvaluateArguments(
        run=folder.uri,
        suite=("generation", "reconstruction"),
        storage=run.config.storage,
        num_samples=trial.protocol.num_samples,
        solver=sampling.solver,
        num_steps=sampling.num_steps,
        cfg_scale=sampling.cfg_scale,
        cfg_interval=sampling.cfg_interval,
        extractor=trial.protocol.extractors,
        num_workers=workers,
        use_gpu=run.config.cluster.use_gpu,
        weights=run.config.weights,
    )
    return evaluate(prepare_evaluation(arguments, run.config.storage), Console(quiet=True))


def open_tracker(
    handle: tracking.RunHandle | None, spool: Path, is_main: bool, images: int
) -> tracking.Tracker:
    """The tracker of one rank that starts after `images`."""
    if not is_main:
        return tracking.NullTracker()
    return tracking.open_tracker(handle, spool=spool, resume_step=images)


def _start_child(run: Run, work: Work, context: Context) -> tracking.RunHandle | None:
    """The training's MLflow run below the sweep's; a server that is away costs curves, not runs."""
    if context.parent is None:
        return None
    sweep, trial = context.sweep, work.trials[0]
    tags = sweep.tags(trial)
    name = sweep.label(trial)
    if len(work.trials) > 1:
        # The trials that are measured on it get runs of their own, each with its value.
        tags = {key: tags[key] for key in ("axis", "seed", "figure", "scale", "equal")}
        name = f"training, seed {trial.seed}"
    try:
        handle = start_child(
            run,
            context.parent,
            name,
            tags,
            cluster=describe_cluster(),
            resume_run_id=run.record.get("mlflow_run_id"),
        )
    except tracking.TrackingError as error:
        logger.warning("no curves of %s in MLflow: %s", run.folder.name, error)
        return None
    run.folder.write_json(RUN_FILE, {"mlflow_run_id": handle.run_id, "mlflow_uri": handle.uri})
    return handle
