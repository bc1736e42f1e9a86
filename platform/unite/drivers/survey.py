"""Survey of a storage: which checkpoints lack which results.

A storage may hold thousands of checkpoints. What those of a run have in common (config, data,
extractors, the tasks themselves) is read and checked once.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import multiprocessing
import signal
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from unite import tracking
from unite.checkpoints.layout import (
    MARKER,
    CheckpointError,
    checkpoint_digest,
    committed,
    folder_of,
    read_state,
)
from unite.config.schema import TrackingConfig
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.request import open_evaluation
from unite.evaluation.target import Target, open_subject
from unite.runs import (
    CONFIG_FILE,
    EVALUATIONS,
    committed_at,
    read_record,
    resolve_run,
    run_of,
    runs_under,
)
from unite.scheduling.requests import EvaluationRequest, Measurement
from unite.scheduling.rounds import ScheduleArguments, in_order
from unite.storage import Store, database_path

T = TypeVar("T")
logger = logging.getLogger(__name__)

ANSWER_S = 120.0
"""Seconds that MLflow may take to tell its runs."""


@dataclass(kw_only=True)
class Survey:
    """Requests to evaluate, and checkpoints that cannot be read."""

    missing: list[EvaluationRequest] = field(default_factory=list)
    """Requests without a result."""
    done: int = 0
    """Number of requests with a result."""
    troubled: list[str] = field(default_factory=list)
    """Checkpoints that could not be read, with the reasons."""

    def __str__(self) -> str:
        return f"results: {self.done} there, {len(self.missing)} missing"


def survey(arguments: ScheduleArguments, storage: str) -> Survey:
    """Requests of all requested runs.

    Errors of a run that is named are raised (CheckpointError, ShardError, ValueError); those of
    others are noted, so that one broken run does not keep the rest waiting.
    """
    wanted = EvaluateArguments(
        **{
            item.name: getattr(arguments, item.name)
            for item in dataclasses.fields(EvaluateArguments)
        }
    )
    found, known = Survey(), Measurements(wanted, storage)
    for checkpoint in find_checkpoints(arguments, storage):
        try:
            requests = known.requests_of(checkpoint)
            lacking = [request for request in requests if not request.has_result(look_again=False)]
        except (ValueError, OSError, RuntimeError) as error:
            if "/checkpoints/" in checkpoint.uri and not checkpoint.exists(MARKER):
                continue  # its run has replaced it meanwhile
            if arguments.run:
                raise
            found.troubled.append(f"{checkpoint}: {error}")
            continue
        found.missing += lacking
        found.done += len(requests) - len(lacking)
    found.missing = in_order(found.missing, arguments.order)
    return found


@dataclass(frozen=True)
class Measurements:
    """Measurements of a request, checked once for checkpoints that share config and data."""

    arguments: EvaluateArguments
    storage: str
    _known: dict[tuple[str, ...], tuple[Target, list[Measurement]] | Exception] = field(
        default_factory=dict
    )

    def requests_of(self, checkpoint: Store) -> list[EvaluationRequest]:
        """Requests of a checkpoint, one for each suite that `jobs/evaluate.py` would measure."""
        subject, key = None, (checkpoint.uri,)
        if (run := run_of(checkpoint)) is not None:
            state = read_state(checkpoint, "images", "config", "manifest_digest")
            key = (run.uri, json.dumps(state["config"]), state["manifest_digest"])
        if key not in self._known:
            self._known[key] = self._checked(checkpoint)
        known = self._known[key]
        if isinstance(known, Exception):
            raise known
        target, measurements = known
        if run is not None:
            digest = checkpoint_digest(checkpoint)
            subject = replace(
                target.subject,
                digest=digest,
                uri=checkpoint.uri,
                images=state["images"],
                home=(run / EVALUATIONS / digest).uri,
            )
        subject, when = subject or target.subject, committed_at(checkpoint)
        return [
            EvaluationRequest(subject=subject, committed=when, measurement=each)
            for each in measurements
        ]

    def _checked(self, checkpoint: Store) -> tuple[Target, list[Measurement]] | Exception:
        try:
            wanted = replace(self.arguments, run=checkpoint.uri, storage="")
            opened = open_evaluation(wanted, self.storage)
        except (ValueError, OSError, RuntimeError) as error:
            return error
        target = opened.target
        return target, [Measurement.of(suite, target, self.arguments) for suite in opened.suites]


def find_checkpoints(arguments: ScheduleArguments, storage: str) -> list[Store]:
    """Committed checkpoints of all requested runs.

    CheckpointError when the run that is named has none (with --every it may come), ValueError when
    there is no such storage.
    """
    if arguments.run:
        place = Store.open(resolve_run(arguments.run, storage))
        found = [] if place.is_file() else _checkpoints_of(place)
        # Otherwise it is a checkpoint, an export or a file of weights, or that says what is wrong.
        try:
            return found or [Store.open(open_subject(place.uri, storage, ema=arguments.ema).uri)]
        except CheckpointError as error:
            if not (arguments.every and place.is_file(CONFIG_FILE)):
                raise
            logger.warning("the next round looks again: %s", error)
            return []
    root = Store.open(storage)
    runs = {run.uri: run for run in (*runs_under(root), *_tracked_runs(arguments, storage))}
    if not runs and not root.exists():
        raise ValueError(f"there is no {root}: name the folder of your runs with --storage")
    return [checkpoint for run in runs.values() for checkpoint in _checkpoints_of(run)]


def _checkpoints_of(run: Store) -> list[Store]:
    return [folder_of(run, images) for images in committed(run)]


def _tracked_runs(arguments: ScheduleArguments, storage: str) -> list[Store]:
    """Runs that MLflow knows and that can be reached from here, wherever they are stored."""
    if not arguments.experiment:
        return []
    try:
        uri = tracking.resolve_uri(TrackingConfig(), storage)
        database = database_path(uri)
        if database is not None and not database.exists():
            return []  # nothing was tracked here
        found = _apart(tracking.find_runs, uri, arguments.experiment)
    except tracking.TrackingError as error:
        logger.warning("only the storage is searched for runs: %s", error)
        return []
    places = [run.place for run in found if run.place]
    reached = [Store.open(place) for place in dict.fromkeys(places) if _is_reached(place, uri)]
    if len(reached) < len(set(places)):
        logger.warning(
            "%d runs of MLflow cannot be reached from here", len(set(places)) - len(reached)
        )
    return reached


def _apart(call: Callable[..., T], *given: Any) -> T:
    """Result of a call to MLflow in a process of its own, which ends with all that it imported: in
    the scheduler's that would stay, 110 MiB. TrackingError when none comes."""
    quiet = {"initializer": signal.signal, "initargs": (signal.SIGINT, signal.SIG_IGN)}
    with multiprocessing.get_context("spawn").Pool(1, **quiet) as pool:
        try:
            return pool.apply_async(call, given).get(ANSWER_S)
        except multiprocessing.TimeoutError as error:
            raise tracking.TrackingError(f"MLflow told no runs within {ANSWER_S:g} s") from error


def _is_reached(place: str, uri: str) -> bool:
    """True if a run is at a place; one that names another sqlite file was copied from there."""
    try:
        run = Store.open(place)
        known = read_record(run).get("mlflow_uri", uri)
        return run.is_file(CONFIG_FILE) and (database_path(uri) is None or known == uri)
    except (OSError, CheckpointError):
        return False
