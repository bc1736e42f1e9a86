"""Metrics of a training run as it logged them, from its folder or from MLflow."""

from __future__ import annotations

import logging

from unite import tracking
from unite.runs import curve
from unite.storage import Store
from unite.training.progress import read_progress

logger = logging.getLogger(__name__)


def logged(run: Store, handle: tracking.RunHandle | None, metric: str) -> list[float]:
    """Values of a metric: the history in the run's folder, else MLflow's, else the last one.

    The folder comes first because it needs no server and also knows runs that were not tracked; a
    folder that was copied without it, or a run of another machine on S3, leaves MLflow.
    """
    values = [value for _, value in curve(run, metric)]
    if not values and handle is not None:
        try:
            values = [value for _, value in tracking.metric_history(handle, metric)]
        except tracking.TrackingError as error:
            logger.warning("%s", error)
    if not values:
        last = read_progress(run) or {}
        values = [float(last[metric])] if metric in last else []
    return values
