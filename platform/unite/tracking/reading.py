"""Reading of MLflow's content: experiments, runs, points, and the files of a run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unite.storage import database_path
from unite.tracking.database import ARTIFACTS_FOLDER
from unite.tracking.images import parse_image_name
from unite.tracking.presentation import shown_image, shown_name
from unite.tracking.server import RunHandle, TrackingError, connect, naming

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

RUNS_PER_PAGE = 1000


def experiments(uri: str) -> list[str]:
    """Names of all experiments, sorted; TrackingError when MLflow does not answer."""
    with naming(f"cannot list the experiments at {uri}"):
        return sorted(each.name for each in connect(uri).search_experiments())


@dataclass(frozen=True)
class RunFiles:
    """The artifacts of one run."""

    place: str
    """Place of the artifacts, for messages."""
    _repository: Any

    @classmethod
    def open(cls, handle: RunHandle) -> RunFiles:
        """Find the artifact store of a run, also when its storage folder was moved as a whole."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with naming(f"no files of run {handle.run_id}"):
            place = connect(handle.uri).get_run(handle.run_id).info.artifact_uri or ""
            place = _moved(place, handle)
            return cls(place, get_artifact_repository(place, tracking_uri=handle.uri))

    def list(self, folder: str = "") -> list[str]:
        """Names below `folder`, from the root, folders included; empty when there is none."""
        with naming(f"cannot list {self.place}"):
            return [file.path for file in self._repository.list_artifacts(folder or None)]

    def read(self, name: str) -> bytes:
        """Contents of one file; TrackingError when it cannot be had."""
        with naming(f"cannot read {self.place}/{name}"), tempfile.TemporaryDirectory() as folder:
            return Path(self._repository.download_artifacts(name, folder)).read_bytes()

    def images(self, key: str) -> dict[int, str]:
        """Step -> name of the full-size picture that was logged under `key`."""
        keys = (key, shown_image(key))  # the first one in runs of older versions
        found = {}
        for name in self.list("images"):
            image = parse_image_name(name)
            if image is not None and image.key in keys and not image.thumbnail:
                found[image.step] = name
        return dict(sorted(found.items()))


def _moved(place: str, handle: RunHandle) -> str:
    """A local artifact folder beside the database, where the recorded one is not there."""
    database = database_path(handle.uri)
    if database is None or "://" in place or Path(place).is_dir():
        return place
    beside = database.parent / ARTIFACTS_FOLDER / handle.run_id / "artifacts"
    return str(beside) if beside.is_dir() else place


@dataclass(frozen=True, kw_only=True)
class RunInfo:
    """A run as MLflow knows it."""

    run_id: str
    """MLflow's id."""
    name: str
    """Name shown in the UI."""
    status: str
    """RUNNING, FINISHED, FAILED, KILLED or SCHEDULED."""
    params: dict[str, str]
    """Flattened config."""
    metrics: dict[str, float]
    """Last value of each metric."""
    tags: dict[str, str]
    """Tags, MLflow's own included."""

    @property
    def place(self) -> str:
        """Folder or s3 URI of the run as it was recorded; empty when it was not."""
        if self.tags.get("run_uri"):
            return self.tags["run_uri"].rstrip("/")
        # Runs of older versions.
        storage, name = self.params.get("storage", ""), self.params.get("name", "")
        return f"{storage.rstrip('/')}/{name}" if storage and name else ""


def is_here(handle: RunHandle) -> bool:
    """True if the MLflow of a run can be here, with the run in it.

    A sqlite file may be on another machine, and a run's folder may have been copied without it. A
    server is not asked: what it does not take now is kept for later.
    """
    database = database_path(handle.uri)
    if database is None:
        return True
    if not database.exists():
        return False
    client = connect(handle.uri)
    from mlflow.exceptions import MlflowException

    try:
        client.get_run(handle.run_id)
    except MlflowException as error:
        return error.error_code != "RESOURCE_DOES_NOT_EXIST"
    return True


def find_runs(uri: str, experiment: str, filter_string: str = "") -> list[RunInfo]:
    """The runs of an experiment, newest first.

    `filter_string` is MLflow's search language, such as "tags.trial = 'DIGEST' and
    attributes.status = 'FINISHED'". TrackingError for an experiment that does not exist.
    """
    with naming(f"cannot search the runs at {uri}"):
        client = connect(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            names = ", ".join(sorted(each.name for each in client.search_experiments()))
            raise TrackingError(f"no experiment '{experiment}' at {uri}; it has: {names}")
        return _search(client, found.experiment_id, filter_string)


def _search(client: MlflowClient, experiment_id: str, filter_string: str) -> list[RunInfo]:
    runs, token = [], None
    while True:
        page = client.search_runs(
            [experiment_id], filter_string, max_results=RUNS_PER_PAGE, page_token=token
        )
        runs += [_run_info(run) for run in page]
        token = page.token
        if not token:
            return runs


def _run_info(run: Run) -> RunInfo:
    return RunInfo(
        run_id=run.info.run_id,
        name=run.info.run_name or "",
        status=run.info.status,
        params=dict(run.data.params),
        metrics=dict(run.data.metrics),
        tags=dict(run.data.tags),
    )


def metric_history(handle: RunHandle, name: str) -> list[tuple[int, float]]:
    """(step, value) of every point of a metric that training logged as `name`, in steps' order.

    Runs of older versions have it in MLflow under that name, newer ones under `shown_name`.
    """
    with naming(f"cannot read {name} at {handle.uri}"):
        client = connect(handle.uri)
        names = dict.fromkeys((name, shown_name(name)))
        points = [p for each in names for p in client.get_metric_history(handle.run_id, each)]
    return sorted((point.step, point.value) for point in points)
