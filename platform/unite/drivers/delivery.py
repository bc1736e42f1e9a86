"""Results of evaluations on their way into the training run in MLflow."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from unite import tracking
from unite.evaluation.results import Outcome
from unite.evaluation.target import Target
from unite.sampling.grid import read_png
from unite.storage import Store
from unite.words import count

RASTER = ("samples.png", "reconstructions.png", "trajectory.png")
"""Pictures of images, which MLflow shows by step; plots go there as files."""

logger = logging.getLogger(__name__)


def run_handle(target: Target) -> tracking.RunHandle | None:
    """The training run in MLflow; None when it was not tracked, or where its MLflow is not."""
    handle = tracking.RunHandle.of(target.record)
    return handle if handle is not None and tracking.is_here(handle) else None


def untracked(error: tracking.TrackingError) -> int:
    """Exit status of a job whose results MLflow did not take; says how they are sent later."""
    logger.error("%s", _with_push(str(error)))
    return 1


def send(
    target: Target, outcomes: Sequence[Outcome], files: Mapping[str, bytes], *, wanted: bool = True
) -> str:
    """Write numbers and files into the training run, at the checkpoint's step; returns the result.

    TrackingError when MLflow does not take them: they are kept, and the message says where.
    """
    handle = run_handle(target) if wanted else None
    home = Store.open(target.subject.home)
    if handle is None or target.run is None:
        why = "no run to write to here" if wanted else "it was switched off"
        return f"not written to MLflow ({why}); all results are in {home}"
    step = target.subject.images
    metrics = {
        f"eval/{outcome.suite}/{row.card.metric}": row.card.value
        for outcome in outcomes
        for row in outcome.rows
    }
    images = {name: data for name, data in files.items() if name.endswith(RASTER)}
    tracking.log_results(
        handle,
        metrics,
        step,
        spool=_spool(target.run, home),
        artifacts={
            f"evaluation/{step:012d}/{name}": data
            for name, data in files.items()
            if name not in images
        },
        images={
            f"evaluation/{name.removesuffix('.png')}": read_png(data)
            for name, data in images.items()
        },
    )
    return f"{count(len(metrics), 'result')} in the training run: {tracking.describe(handle)}"


def nothing_to_send(target: Target, *, wanted: bool = True) -> bool:
    """True if all is where it belongs once `send` has returned.

    It is not when the training run was tracked, and its MLflow is not here now.
    """
    return not wanted or not target.record.get("mlflow_run_id") or run_handle(target) is not None


def _with_push(message: str) -> str:
    """The message with this job's own command for sending results later."""
    return message.replace("unite mlflow push ", "python jobs/evaluate.py --push ")


def _spool(run: Store, home: Store) -> Path:
    """Folder of results that wait for MLflow: beside them, or in the home folder for S3."""
    if home.is_local:
        return Path(home.path("unsent"))
    return tracking.spool_folder(run) / "evaluations"
