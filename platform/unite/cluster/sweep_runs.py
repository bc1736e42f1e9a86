"""The runs of a sweep in MLflow: one for the sweep, below it one for each trial.

Trials are found by their tags, never by anything that only this process knows, so that a sweep can
be finished by another driver, and a trial that another command has trained gets its run here too.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from unite import tracking
from unite.ablation.results import read_result
from unite.ablation.trials import Sweep, Trial, Work
from unite.ablation.verdict import Measured
from unite.config.serialise import flatten, to_dict
from unite.data.shards import ShardSet
from unite.storage import Store
from unite.training.runs import Run, data_uri, open_run

logger = logging.getLogger(__name__)

SWEEP_FILE = "sweep.json"
MEASURED_TAG = "measured"


def start_parent(sweep: Sweep) -> tracking.RunHandle | None:
    """The sweep's run in MLflow, the same at every start; TrackingError when MLflow is away."""
    config = sweep.trials[0].config
    if not config.tracking.enabled:
        return None
    record = sweep.folder.read_json(SWEEP_FILE) if sweep.folder.exists(SWEEP_FILE) else {}
    options = sweep.options
    handle = tracking.start_run(
        config.tracking,
        storage=config.storage,
        name=sweep.name,
        params={"axis": sweep.axis.name, "scale": options.scale, "equal": options.equal},
        config_dict={"trials": {trial.digest: sweep.label(trial) for trial in sweep.trials}},
        tags={"axis": sweep.axis.name, "figure": sweep.axis.figure, "scale": options.scale}
        | {"equal": options.equal, "role": "sweep"},
        resume_run_id=record.get("mlflow_run_id"),
    )
    sweep.folder.write_json(SWEEP_FILE, {"mlflow_run_id": handle.run_id, "mlflow_uri": handle.uri})
    return handle


def start_child(
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
    shards = ShardSet.open(data_uri(config, "train"), split="train")
    return tracking.start_run(
        config.tracking,
        storage=config.storage,
        name=name,
        params={field: str(value) for field, value in flatten(config).items()},
        config_dict=to_dict(config),
        tags=tracking.run_tags(
            config.recipe,
            shards.digest,
            cluster,
            run_uri=run.folder.uri,
            source=f"ablations/sweep_{tags['axis']}.py",
            extra=tags,
        ),
        parent_run_id=parent.run_id,
        resume_run_id=resume_run_id,
    )


def publish(sweep: Sweep, parent: tracking.RunHandle | None, work: Work) -> list[Measured]:
    """The finished trials of a run, each with its run in MLflow, made and filled where missing."""
    run = open_run(work.config)
    found = []
    for trial in work.trials:
        result = read_result(run, trial)
        if result is None:
            continue
        measured = Measured(trial=trial, result=result, run=run.folder.uri)
        found.append(_in_mlflow(sweep, parent, measured) if parent is not None else measured)
    return found


def _in_mlflow(sweep: Sweep, parent: tracking.RunHandle, measured: Measured) -> Measured:
    """The same with its MLflow run; when the server is away, said and left to the next start."""
    trial, result = measured.trial, measured.result
    try:
        child, tags = _child(sweep, parent, trial)
        mark = f"{trial.digest} {result.checkpoint}"
        if tags.get(MEASURED_TAG) != mark:
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
    experiment = trial.config.tracking.experiment
    wanted = f"tags.`mlflow.parentRunId` = '{parent.run_id}' and tags.digest = '{trial.digest}'"
    known = tracking.find_runs(parent.uri, experiment, wanted)
    if known:
        return tracking.RunHandle(parent.uri, known[0].run_id, parent.experiment_id), known[0].tags
    run = open_run(trial.config)
    return start_child(run, parent, sweep.label(trial), sweep.tags(trial), cluster={}), {}


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
    tracking.log_results(handle, metrics, step, spool=spool_of(folder), tags=tags, artifacts=files)


def spool_of(folder: Store) -> Path:
    """Local folder of what MLflow has not taken yet: beside the results, or in the user's cache."""
    if folder.is_local:
        return Path(folder.path("tracking"))
    return Path("~/.cache/unite/spool").expanduser() / folder.name
