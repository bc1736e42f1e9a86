"""MLflow runs as the driver sees them: start or continue one, finish it, find others.

Only `MlflowClient` is used. The fluent API keeps the run in thread-local state, so that a worker
or an asynchronous evaluation would open a second one.
"""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal, TypeVar
from urllib.parse import urlsplit

from unite.config.schema import TrackingConfig
from unite.network import is_loopback
from unite.tracking.presentation import (
    COMMAND_TAG,
    EXPERIMENT_TAGS,
    DataInput,
    command_line,
    describe_experiment,
    first_note,
    log_data,
    refresh_note,
)
from unite.tracking.server import (
    START_S,
    RunHandle,
    TrackingError,
    artifact_location,
    artifacts_of,
    check,
    connect,
    naming,
    patiently,
    reason_of,
    resolve_uri,
    turn,
)
from unite.tracking.spool import Spool

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment, Run

logger = logging.getLogger(__name__)

T = TypeVar("T")

Status = Literal["FINISHED", "FAILED", "KILLED"]

MAX_PARAMS_PER_CALL = 100
MAX_PARAM_LENGTH = 6000
MAX_TAG_LENGTH = 8000
PARENT_TAG = "mlflow.parentRunId"
CHANGED_TAG = "resumed_with_changes"
START_TAG = "start_id"
"""Tag with a mark of the start that made a run."""


def start_run(
    config: TrackingConfig,
    *,
    storage: str,
    name: str,
    params: Mapping[str, object],
    config_dict: Mapping[str, Any],
    tags: Mapping[str, str],
    data: Sequence[DataInput] = (),
    parent_run_id: str | None = None,
    resume_run_id: str | None = None,
) -> RunHandle:
    """Create the run, or continue `resume_run_id`, and store its config; called by the driver.

    Args:
        config: where to track, and the experiment.
        storage: the runs' folder or s3 URI; holds the sqlite file when no server is named.
        name: name of the run unless config.run_name gives one.
        params: the flattened config. MLflow never changes a param: when a run is continued with
            other values, they are noted in the tag `resumed_with_changes`.
        config_dict: the nested config, stored as the artifact config.json.
        tags: see `run_tags`.
        data: the data sets that the run reads.
        parent_run_id: the sweep's run that this one is a trial of.
        resume_run_id: the run to continue. If this MLflow has no such run, a new one is made.

    TrackingError when MLflow or its artifact store does not answer: better now than hours later.
    """
    uri = resolve_uri(config, storage)
    took_s = check(uri)
    client = connect(uri)
    if uri.startswith("http") and (wait := turn(took_s)):
        logger.warning("MLflow at %s is busy: the run is made in %.0f s", uri, wait)
        time.sleep(wait)
    with naming(f"MLflow at {uri} refused the run"):
        location = artifact_location(uri, storage)
        experiment = _retried(lambda: open_experiment(client, config.experiment, location))
        _retried(lambda: describe_experiment(client, experiment))
        command = command_line()
        all_tags = ({COMMAND_TAG: command} if command else {}) | dict(tags)
        all_tags |= {PARENT_TAG: parent_run_id} if parent_run_id else {}
        found = _retried(lambda: _continued(client, resume_run_id, uri)) if resume_run_id else None
        # A new one is made with its description: each request less lets more runs begin at once.
        noted = all_tags | first_note(all_tags)
        where = experiment.experiment_id
        run = found or _create(client, where, config.run_name or name, noted)
        run_id = run.info.run_id
        _retried(lambda: _describe_run(client, run, params, all_tags))
        _retried(lambda: log_data(client, run_id, data))
        if found:
            _retried(lambda: refresh_note(client, run_id))
        _store_config(client, run, config_dict, uri)
    _warn_of_local_artifacts(uri, run.info.artifact_uri or "")
    return RunHandle(uri, run_id, run.info.experiment_id)


def _retried(call: Callable[[], T]) -> T:
    """The result of a request of a start, each of which may be made twice."""
    return patiently(call, START_S)


def _create(client: MlflowClient, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
    """A new run; where the answer was lost it is found by its mark, and none is made twice."""
    mark = uuid.uuid4().hex
    marked = {key: value[:MAX_TAG_LENGTH] for key, value in {**tags, START_TAG: mark}.items()}
    search = f"tags.{START_TAG} = '{mark}'"
    tried = False

    def make() -> Run:
        """The run that an earlier try has made, else a new one."""
        nonlocal tried
        found = client.search_runs([experiment_id], search, max_results=1) if tried else []
        tried = True
        return found[0] if found else client.create_run(experiment_id, None, marked, name)

    return _retried(make)


def open_experiment(client: MlflowClient, name: str, location: str | None) -> Experiment:
    """The experiment, which is made when there is none; TrackingError when deleted."""
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            # With its tags: of hundreds that find it untagged only one could write each.
            made = client.create_experiment(name, location, tags=EXPERIMENT_TAGS)
            return client.get_experiment(made)
        except MlflowException:  # another driver made it a moment ago
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        raise TrackingError(
            f"tracking.experiment '{name}' was deleted in MLflow. Choose another name or bring it "
            f"back: mlflow experiments restore --experiment-id {experiment.experiment_id}"
        )
    return experiment


def _continued(client: MlflowClient, run_id: str, uri: str) -> Run | None:
    """The run, running again; None (said loudly) when this MLflow does not have it."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
        if run.info.lifecycle_stage == "active":
            client.update_run(run_id, status="RUNNING")
            return run
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
    logger.warning(
        "MLflow at %s has no run %s any more: a new one is made; the metrics kept beside the "
        "checkpoints are sent to it",
        uri,
        run_id,
    )
    return None


def _describe_run(
    client: MlflowClient, run: Run, params: Mapping[str, object], tags: Mapping[str, str]
) -> None:
    """Bring params and tags that the run does not have: most of a new one's are there."""
    from mlflow.entities import Param, RunTag

    texts = {key: _param_text(value) for key, value in params.items()}
    known = run.data.params
    changes = [
        f"{key}: {known[key]} -> {text}"
        for key, text in texts.items()
        if key in known and known[key] != text
    ]
    changed = {CHANGED_TAG: "; ".join(changes)} if changes else {}
    wanted = {key: value[:MAX_TAG_LENGTH] for key, value in {**tags, **changed}.items()}
    held = run.data.tags
    run_tags = [RunTag(key, value) for key, value in wanted.items() if held.get(key) != value]
    new = [Param(key, text) for key, text in texts.items() if key not in known]
    while new or run_tags:
        client.log_batch(run.info.run_id, tags=run_tags, params=new[:MAX_PARAMS_PER_CALL])
        run_tags, new = [], new[MAX_PARAMS_PER_CALL:]


def _param_text(value: object) -> str:
    text = str(value)
    return text if len(text) <= MAX_PARAM_LENGTH else text[: MAX_PARAM_LENGTH - 3] + "..."


def _store_config(client: MlflowClient, run: Run, config_dict: Mapping[str, Any], uri: str) -> None:
    """Store the config as an artifact, which also proves that artifacts can be stored."""
    try:
        with TemporaryDirectory() as folder:
            file = Path(folder, "config.json")
            file.write_text(json.dumps(config_dict, indent=1, sort_keys=True))
            artifacts = artifacts_of(run, uri)
            _retried(lambda: artifacts.log_artifact(str(file)))
    except Exception as error:
        client.set_terminated(run.info.run_id, "FAILED")
        raise TrackingError(
            f"MLflow takes runs but not artifacts (at {run.info.artifact_uri}): "
            f"{reason_of(error)}. Start the server with --artifacts-destination, or give this "
            "machine the credentials of its artifact store."
        ) from error


def _warn_of_local_artifacts(uri: str, artifact_uri: str) -> None:
    """Warn of a remote server without artifact serving: files stay on this machine."""
    if not uri.startswith("http") or is_loopback(urlsplit(uri).hostname or ""):
        return
    if urlsplit(artifact_uri).scheme in ("", "file"):
        logger.warning(
            "images and artifacts go to %s on the machine that logs them; the server at %s will "
            "not see them. Start it with --artifacts-destination and use a new experiment.",
            artifact_uri,
            uri,
        )


def finish_run(handle: RunHandle, status: Status, *, spool: str | Path | None = None) -> None:
    """Set the run's final status. Never raises: a finished training must not fail here.

    When MLflow does not answer, the status is kept in `spool` (the tracker's folder), if given,
    and set by `push_spool`.
    """

    def finish() -> None:
        client = connect(handle.uri)
        client.set_terminated(handle.run_id, status)
        refresh_note(client, handle.run_id)

    try:
        patiently(finish)
    except Exception as error:  # whatever mlflow, its database driver or the network raises
        kept = _keep_status(spool, status)
        logger.warning(
            "run %s could not be set to %s in MLflow: %s%s",
            handle.run_id,
            status,
            reason_of(error),
            f". Do it later with: unite mlflow push {kept}" if kept else "",
        )


def _keep_status(spool: str | Path | None, status: Status) -> Path | None:
    if spool is None:
        return None
    try:
        kept = Spool(spool)
        kept.note_status(status)
        return kept.points_file
    except (OSError, ValueError):  # no such spool on this machine
        return None
