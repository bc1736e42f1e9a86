"""Reading of MLflow's content: the experiments, and the files of a run."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unite.storage import database_path
from unite.tracking.database import ARTIFACTS_FOLDER
from unite.tracking.images import parse_image_name
from unite.tracking.presentation import shown_image
from unite.tracking.server import (
    RunHandle,
    TrackingError,
    connect,
    reason_of,
)


def experiments(uri: str) -> list[str]:
    """Names of all experiments, sorted; TrackingError when MLflow does not answer."""
    try:
        return sorted(each.name for each in connect(uri).search_experiments())
    except Exception as error:  # whatever mlflow, its database driver or the network raises
        raise TrackingError(f"cannot list the experiments at {uri}: {reason_of(error)}") from error


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

        try:
            place = connect(handle.uri).get_run(handle.run_id).info.artifact_uri or ""
            place = _moved(place, handle)
            return cls(place, get_artifact_repository(place, tracking_uri=handle.uri))
        except Exception as error:  # whatever mlflow, its artifact store or the network raises
            raise TrackingError(f"no files of run {handle.run_id}: {reason_of(error)}") from error

    def list(self, folder: str = "") -> list[str]:
        """Names below `folder`, from the root, folders included; empty when there is none."""
        try:
            return [file.path for file in self._repository.list_artifacts(folder or None)]
        except Exception as error:  # whatever the artifact store raises
            raise TrackingError(f"cannot list {self.place}: {reason_of(error)}") from error

    def read(self, name: str) -> bytes:
        """Contents of one file; TrackingError when it cannot be had."""
        try:
            with tempfile.TemporaryDirectory() as folder:
                return Path(self._repository.download_artifacts(name, folder)).read_bytes()
        except Exception as error:  # whatever the artifact store raises
            raise TrackingError(f"cannot read {self.place}/{name}: {reason_of(error)}") from error

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
