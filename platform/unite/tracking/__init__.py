"""Tracking in MLflow: the driver makes the run, rank 0 writes it, nobody else does.

    driver   handle = start_run(config, ...); login = Login.of_this_process(); ...
             finish_run(handle, "FINISHED")
    rank 0   tracker = open_tracker(handle, spool=spool_folder(run), login=login)
             tracker.log({...}, step=images_seen)

This is the only folder that imports mlflow, and only when MLflow is really used.
"""

from unite.tracking.presentation import DataInput, shown_name
from unite.tracking.reading import (
    RunFiles,
    RunInfo,
    experiments,
    find_runs,
    is_here,
    metric_history,
)
from unite.tracking.results import Pushed, log_results, push_spool
from unite.tracking.runs import finish_run, start_run
from unite.tracking.server import (
    Login,
    RunHandle,
    TrackingError,
    check,
    describe,
    resolve_uri,
)
from unite.tracking.spool import spool_folder
from unite.tracking.system import SYSTEM_METRICS
from unite.tracking.tags import run_params, run_tags
from unite.tracking.tracker import MlflowTracker, Tracker, open_tracker

__all__ = [
    "SYSTEM_METRICS",
    "DataInput",
    "Login",
    "MlflowTracker",
    "Pushed",
    "RunFiles",
    "RunHandle",
    "RunInfo",
    "Tracker",
    "TrackingError",
    "check",
    "describe",
    "experiments",
    "find_runs",
    "is_here",
    "finish_run",
    "log_results",
    "metric_history",
    "open_tracker",
    "push_spool",
    "resolve_uri",
    "run_params",
    "run_tags",
    "spool_folder",
    "shown_name",
    "start_run",
]
