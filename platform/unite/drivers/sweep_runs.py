"""The runs of a sweep in MLflow: one for the sweep, below it one for each trial.

Trials are found by their tags, never by anything that only this process knows, so that a sweep can
be finished by another driver, and a trial that another command has trained gets its run here too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from unite import tracking
from unite.ablation.results import MEASURED_TAG, read_result
from unite.ablation.trials import Sweep, Trial, TrialGroup
from unite.ablation.verdict import Measured
from unite.config.serialise import flatten, to_dict
from unite.drivers.inputs import data_inputs
from unite.runs import RUN_FILE
from unite.storage import Store
from unite.tracking.spool import TARGET_FILE, Spool, Target
from unite.training.runs import Run, open_run
from unite.training.setup import open_split

logger = logging.getLogger(__name__)

SWEEP_FILE = "sweep.json"


def start_parent(sweep: Sweep) -> tracking.RunHandle | None:
    """The sweep's run in MLflow, the same at every start; TrackingError when MLflow is away."""
    config = sweep.trials[0].config
    if not config.tracking.enabled:
        return None
    record = sweep.folder.read_json(SWEEP_FILE, {}) if sweep.folder.exists(SWEEP_FILE) else {}
    options = sweep.options
    handle = tracking.start_run(
        config.tracking,
        storage=config.storage,
        name=sweep.name,
        params={"axis": sweep.axis.name, "scale": options.scale, "equal": options.equal},
        config_dict={"trials": {trial.digest: sweep.label(trial) for trial in sweep.trials}},
        tags={"axis": sweep.axis.name, "figure": sweep.axis.figure, "scale": options.scale}
        | {"equal": options.equal, "role": "sweep"}
        | {"mlflow.source.name": f"ablations/sweep_{sweep.axis.name}.py"},
        resume_run_id=record.get("mlflow_run_id"),
    )
    sweep.folder.write_json(SWEEP_FILE, handle.record)
    return handle


def training_run(
    sweep: Sweep, parent: tracking.RunHandle, work: TrialGroup, cluster: Mapping[str, object]
) -> tracking.RunHandle:
    """The run that holds a training's curves, the same at every start; TrackingError when away.

    A run that is measured once is the trial's own. One that serves several trials is beside them,
    as each of those has a value of its own.
    """
    run, trial = open_run(work.config), work.trials[0]
    tags, name = sweep.tags(trial), sweep.label(trial)
    wanted = {"digest": trial.digest}
    if len(work.trials) > 1:
        wanted = {"training": work.digest}
        tags = {key: tags[key] for key in ("axis", "seed", "figure", "scale", "equal")} | wanted
        name = f"training, seed {trial.seed}"
    known = run.mlflow_run_id
    if known is None:  # a driver may have been killed before it noted the run that it made
        found = _below(parent, trial.config.tracking.experiment, wanted)
        known = found[0].run_id if found else None
    handle = _start_child(run, parent, name, tags, cluster=cluster, resume_run_id=known)
    run.folder.write_json(RUN_FILE, handle.record)
    return handle


def _below(
    parent: tracking.RunHandle, experiment: str, tags: Mapping[str, str]
) -> list[tracking.RunInfo]:
    """The runs below the sweep's that have these tags."""
    wanted = {"`mlflow.parentRunId`": parent.run_id, **tags}
    words = " and ".join(f"tags.{name} = '{value}'" for name, value in wanted.items())
    return tracking.find_runs(parent.uri, experiment, words)


def _start_child(
    run: Run,
    parent: tracking.RunHandle,
    name: str,
    tags: Mapping[str, str],
    *,
    cluster: Mapping[str, object],
    resume_run_id: str | None = None,
) -> tracking.RunHandle:
    """An MLflow run below `parent`, with a run's config and a trial's tags.

    `cluster`: facts of the cluster that trains it; empty when it was trained elsewhere.
    """
    config = run.config
    shards = open_split(config, "train")
    return tracking.start_run(
        config.tracking,
        storage=config.storage,
        name=name,
        params=tracking.run_params(flatten(config)),
        config_dict=to_dict(config),
        tags=tracking.run_tags(
            config.recipe,
            shards.digest,
            cluster,
            run_uri=run.folder.uri,
            source=f"ablations/sweep_{tags['axis']}.py",
            extra=tags,
        ),
        data=data_inputs(config),
        parent_run_id=parent.run_id,
        resume_run_id=resume_run_id,
    )


def publish(sweep: Sweep, parent: tracking.RunHandle | None, work: TrialGroup) -> list[Measured]:
    """The finished trials of a run, each with its run in MLflow, made and filled where missing."""
    run = open_run(work.config)
    found = []
    for trial in work.trials:
        result = read_result(run, trial)
        if result is None:
            continue
        measured = Measured(trial=trial, result=result, run=run.folder.uri)
        if parent is not None:
            measured = _in_mlflow(sweep, parent, work, measured)
        found.append(measured)
    return found


def _in_mlflow(
    sweep: Sweep, parent: tracking.RunHandle, work: TrialGroup, measured: Measured
) -> Measured:
    """The trial with its MLflow run; without a server it is reported and left to the next start."""
    trial, result = measured.trial, measured.result
    try:
        child, tags = _child(sweep, parent, trial)
        mark = f"{trial.measurement} {result.checkpoint}"
        if tags.get(MEASURED_TAG) != mark:
            _send_curves(sweep, parent, work, child)
            send(child, result.metrics, result.images, sweep.folder, tags={MEASURED_TAG: mark})
            tracking.finish_run(child, "FINISHED")
    except tracking.TrackingError as error:
        logger.warning(
            "%s is not in MLflow yet, the same command sends it: %s", trial.digest, error
        )
        return measured
    link = tracking.describe(child) if child.uri.startswith("http") else ""
    return Measured(trial=trial, result=result, run=measured.run, run_id=child.run_id, link=link)


def _child(
    sweep: Sweep, parent: tracking.RunHandle, trial: Trial
) -> tuple[tracking.RunHandle, dict[str, str]]:
    """A trial's run below the sweep's and its tags; made when there is none.

    There is none when another sweep, or jobs/train.py, has trained the run.
    """
    known = _below(parent, trial.config.tracking.experiment, {"digest": trial.digest})
    if known:
        return tracking.RunHandle(parent.uri, known[0].run_id, parent.experiment_id), known[0].tags
    run = open_run(trial.config)
    return _start_child(run, parent, sweep.label(trial), sweep.tags(trial), cluster={}), {}


def _send_curves(
    sweep: Sweep, parent: tracking.RunHandle, work: TrialGroup, child: tracking.RunHandle
) -> None:
    """Send the unsent part of a training's curves; TrackingError when MLflow is still away.

    A training that began while MLflow was away has curves that belong to no run yet.
    """
    run = open_run(work.config)
    folder = tracking.spool_folder(run.folder)
    if not folder.is_dir():
        return  # trained on another machine, or without tracking
    curves = Spool(folder)
    if not (folder / TARGET_FILE).is_file():
        owner = child if len(work.trials) == 1 else training_run(sweep, parent, work, {})
        curves.aim(Target(owner, status="FINISHED"))
    tracking.push_spool(curves.points_file)


def send(
    handle: tracking.RunHandle,
    metrics: Mapping[str, float],
    step: int,
    folder: Store,
    *,
    tags: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write results into a run; TrackingError, after keeping them, when MLflow is away."""
    tracking.log_results(
        handle, metrics, step, spool=tracking.spool_folder(folder), tags=tags, artifacts=files
    )
