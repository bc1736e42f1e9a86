"""One MLflow run, seen through the four calls that deliver a spool: one HTTP request each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from unite.runs import Point
from unite.tracking.images import ImageId, parse_image_name
from unite.tracking.presentation import refresh_note
from unite.tracking.server import RunHandle, artifacts_of, connect

MAX_POINTS_PER_CALL = 1000
"""MLflow's limit of metrics in one log-batch request."""


class MlflowGateway:
    """The gateway to a run; loads mlflow when made. Every call may raise anything."""

    def __init__(self, handle: RunHandle) -> None:
        self._client = connect(handle.uri)
        self._handle = handle

    def attach(self) -> dict[str, int]:
        """The last step that the run has of each metric, to be called first: one GET of the run."""
        run = self._client.get_run(self._handle.run_id)
        self._artifacts = artifacts_of(run, self._handle.uri)
        return {metric.key: metric.step for metric in run.data.to_proto().metrics}

    def send(self, points: Sequence[Point], tags: dict[str, str]) -> None:
        """Store points and tags: one log-batch POST."""
        from mlflow.entities import Metric, RunTag

        metrics = [
            Metric(name, value, point.time_ms, point.step)
            for point in points
            for name, value in point.metrics.items()
        ]
        run_tags = [RunTag(name, value) for name, value in tags.items()]
        self._client.log_batch(self._handle.run_id, metrics=metrics, tags=run_tags)

    def images(self) -> set[ImageId]:
        """Step-keyed images that the run has: one listing of the folder images/."""
        listed = self._artifacts.list_artifacts("images")
        return {image for file in listed if (image := parse_image_name(file.path))}

    def upload(self, path: Path, name: str) -> None:
        """Store a file as the artifact `name`: one PUT, or a copy where the store is a folder."""
        folder = PurePosixPath(name).parent.as_posix()
        self._artifacts.log_artifact(str(path), None if folder == "." else folder)

    def describe(self) -> None:
        """Write the run's description anew: one GET of the run, one POST of tags."""
        refresh_note(self._client, self._handle.run_id)
