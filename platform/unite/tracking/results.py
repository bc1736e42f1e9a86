"""Results of an evaluation, logged to their run, and the push of points that an outage delayed."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unite.runs import METRICS_FILE
from unite.tracking.delivery import Delivery
from unite.tracking.images import check_image, encode_image
from unite.tracking.presentation import shown_image
from unite.tracking.server import RunHandle, TrackingError, connect, patiently, reason_of
from unite.tracking.spool import CACHE, Spool, Target

MOST_REFUSED = 3
"""Refused spools in a row after which a push gives up: the server is away."""
RESULT_NAME = re.compile(r"eval/[a-z0-9_.-]+/[a-z0-9_.-]+")


class Pushed(NamedTuple):
    """Result of a push: points and files that were sent to MLflow."""

    points: int
    files: int


def log_results(
    handle: RunHandle,
    metrics: Mapping[str, float],
    step: int,
    *,
    spool: str | Path,
    artifacts: Mapping[str, bytes] | None = None,
    images: Mapping[str, np.ndarray] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write an evaluation's results into a run now, or raise and keep them.

    Args:
        handle: the run; its uri and run_id suffice.
        metrics: values by name eval/<suite>/<metric>, such as eval/generation/fd-digits-cnn.
        step: images seen by the checkpoint that was measured.
        spool: folder that keeps the results when MLflow does not take them.
        artifacts: files by name.
        images: uint8 (H, W, C) by key, shown at `step`.
        tags: tags to set on the run.

    TrackingError when MLflow does not answer: names the file and the command that pushes it.
    """
    _check_results(metrics, images or {})
    kept = Spool(Path(spool) / f"{step}-{uuid.uuid4().hex[:8]}")
    kept.aim(Target(handle, training=False, tags=dict(tags or {})))
    kept.log.append({name: float(value) for name, value in metrics.items()}, int(step))
    for key, image_HWC in (images or {}).items():
        encoded = encode_image(shown_image(key), image_HWC, int(step), time.time_ns() // 1_000_000)
        for name, data in encoded.items():
            kept.put_file(name, data)
    for name, data in (artifacts or {}).items():
        kept.put_file(name, data)
    push_spool(kept.points_file)


def _check_results(metrics: Mapping[str, float], images: Mapping[str, np.ndarray]) -> None:
    for name in metrics:
        if not RESULT_NAME.fullmatch(name):
            raise ValueError(
                f"result '{name}' must be named eval/<suite>/<metric> in a-z, 0-9, _, . and -, "
                "such as eval/generation/fid"
            )
    for key, image_HWC in images.items():
        check_image(key, image_HWC)


def push_spool(path: str | Path) -> Pushed:
    """Send points and files that MLflow did not take when they were logged, each once.

    `path` is a metrics.jsonl that a log line named, or a folder with such files anywhere below, as
    the storage of many runs; those that were logged with tracking off are passed over.
    TrackingError when there is nothing of the kind, or when MLflow does not answer.
    """
    if "://" in str(path):
        raise TrackingError(
            f"{path} is no folder of this machine. What runs on an object store have for MLflow "
            f"waits on the machine that logged it: unite mlflow push {CACHE}"
        )
    path = Path(path).expanduser()
    files = sorted(path.rglob(METRICS_FILE)) if path.is_dir() else [path]
    if not files or not files[0].is_file():
        raise TrackingError(f"{path} is no {METRICS_FILE} and no folder that holds one")
    spools = [Spool.of_points(file) for file in files]
    if len(spools) == 1:
        return _push(spools[0])
    return _push_all([spool for spool in spools if spool.has_target])


def _push_all(spools: Sequence[Spool]) -> Pushed:
    """Push many; one that is refused does not keep the others, MOST_REFUSED in a row do.

    TrackingError at the end, when any was refused.
    """
    pushed: list[Pushed] = []
    refused: list[TrackingError] = []
    in_a_row = 0
    for spool in spools:
        try:
            pushed.append(_push(spool))
            in_a_row = 0
        except TrackingError as error:
            refused.append(error)
            in_a_row += 1
            if in_a_row == MOST_REFUSED:
                break
    if refused:
        raise TrackingError(
            f"{len(pushed)} of {len(spools)} spools were sent, {len(refused)} refused. The first "
            f"of these: {refused[0]}"
        )
    return Pushed(sum(each.points for each in pushed), sum(each.files for each in pushed))


def _push(spool: Spool) -> Pushed:
    target = spool.target()
    delivery = Delivery(spool)
    try:
        _deliver(delivery)
        if target.status:
            client = connect(target.run.uri)
            patiently(lambda: client.set_terminated(target.run.run_id, target.status))
            spool.note_status("")
        delivery.connect().describe()
    except Exception as error:  # whatever mlflow, its artifact store or the network raises
        raise TrackingError(
            f"MLflow at {target.run.uri} did not take run {target.run.run_id}: "
            f"{reason_of(error)}. Nothing is lost: push again with: "
            f"unite mlflow push {spool.points_file}"
        ) from error
    if not target.training:
        shutil.rmtree(spool.folder)  # MLflow has it; the results' own folder was only a parcel
    return Pushed(delivery.sent_points, delivery.sent_files)


def _deliver(delivery: Delivery) -> None:
    """Send everything; a file that is refused does not keep the points from going first."""
    failures: list[Exception] = []
    while len(failures) < 2:
        try:
            if not delivery.step():
                return
            failures.clear()
        except Exception as error:  # raised again below, when points and files both fail
            failures.append(error)
    raise failures[-1]
