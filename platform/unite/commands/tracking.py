"""`unite mlflow push` and `unite mlflow doctor`."""

from __future__ import annotations

import tempfile
import time
from importlib.metadata import version

from unite.config.schema import TrackingConfig
from unite.runs import default_storage
from unite.tracking import (
    TrackingError,
    describe,
    finish_run,
    log_results,
    metric_history,
    push_spool,
    resolve_uri,
    start_run,
)
from unite.words import count

EXPERIMENT = "unite-doctor"
METRIC = "eval/doctor/answer"
ANSWER = 42.0


def push(path: str) -> None:
    """Send the content of a run's spool; TrackingError when MLflow does not take it."""
    pushed = push_spool(path)
    points, files = count(pushed.points, "point"), count(pushed.files, "file")
    print(f"sent {points} and {files}; the rest was there already")


def doctor(uri: str) -> None:
    """Write a run with a config, a metric and an artifact, read it back, and say how long it took.

    TrackingError names what fails and the cure.
    """
    storage = default_storage()
    config = TrackingConfig(uri=uri, experiment=EXPERIMENT)
    place = resolve_uri(config, storage)
    print(f"mlflow {version('mlflow')}, tracking URI {place}")
    started = time.monotonic()
    handle = start_run(config, storage=storage, name="doctor", params={}, config_dict={}, tags={})
    print(f"ok  creates runs and stores artifacts ({time.monotonic() - started:.1f} s)")
    with tempfile.TemporaryDirectory() as spool:
        log_results(handle, {METRIC: ANSWER}, step=0, spool=spool)
    if ANSWER not in [value for _, value in metric_history(handle, METRIC)]:
        raise TrackingError(f"{place} took a metric and did not give it back")
    print("ok  gives back the metric that was written")
    finish_run(handle, "FINISHED")
    print(f"The run is in experiment {EXPERIMENT}. To look: {describe(place)}")
