"""Scheduled evaluation on a cluster: find missing results, submit jobs to Ray's job server.

This process only asks and submits; the jobs run on the cluster and end without it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from unite import tracking
from unite.checkpoints.store import MARKER, CheckpointError, committed, folder_of
from unite.cluster.connect import REPOSITORY
from unite.cluster.jobs import ADDRESS_VARIABLES, JobServerError, RayJobs
from unite.config.schema import TrackingConfig
from unite.drivers.evaluate import prepare
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.target import open_subject
from unite.runs import CONFIG_FILE, read_record, resolve_run, runs_under
from unite.scheduling.attempts import read_attempts
from unite.scheduling.pairs import Pair
from unite.scheduling.rounds import (
    Round,
    ScheduleArguments,
    check_schedule,
    in_order,
    next_start,
    seconds,
)
from unite.storage import Store, database_path
from unite.words import count

logger = logging.getLogger(__name__)

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
SCRIPT = "jobs/evaluate.py"


@dataclass(kw_only=True)
class Survey:
    """Pairs to evaluate, and checkpoints that cannot be read."""

    missing: list[Pair] = field(default_factory=list)
    """Pairs without a result."""
    done: int = 0
    """Number of pairs with a result."""
    troubled: list[str] = field(default_factory=list)
    """Checkpoints that could not be read, with the reasons."""

    def __str__(self) -> str:
        return f"results: {self.done} there, {len(self.missing)} missing"


def survey(arguments: ScheduleArguments, storage: str) -> Survey:
    """Pairs of all requested runs.

    Errors of a run that is named are raised (CheckpointError, ShardError, ValueError); those of
    others are noted, so that one broken run does not keep the rest waiting.
    """
    request = EvaluateArguments(
        **{
            item.name: getattr(arguments, item.name)
            for item in dataclasses.fields(EvaluateArguments)
        }
    )
    found = Survey()
    for checkpoint in find_checkpoints(arguments, storage):
        try:
            pairs = pairs_of(checkpoint, request, storage)
            lacking = [pair for pair in pairs if not pair.has_result()]
        except (ValueError, OSError, RuntimeError) as error:
            if "/checkpoints/" in checkpoint.uri and not checkpoint.exists(MARKER):
                continue  # its run has replaced it meanwhile
            if arguments.run:
                raise
            found.troubled.append(f"{checkpoint}: {error}")
            continue
        found.missing += lacking
        found.done += len(pairs) - len(lacking)
    found.missing = in_order(found.missing, arguments.order)
    return found


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
        found = tracking.find_runs(uri, arguments.experiment)
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


def _is_reached(place: str, uri: str) -> bool:
    """True if a run is at a place; one that names another sqlite file was copied from there."""
    try:
        run = Store.open(place)
        known = read_record(run).get("mlflow_uri", uri)
        return run.is_file(CONFIG_FILE) and (database_path(uri) is None or known == uri)
    except (OSError, CheckpointError):
        return False


def pairs_of(checkpoint: Store, request: EvaluateArguments, storage: str) -> list[Pair]:
    """Pairs of a checkpoint, one for each suite that `jobs/evaluate.py` would measure."""
    checked = prepare(replace(request, run=checkpoint.uri, storage=""), storage)
    places = checked.choice.places
    return [Pair.of(suite, checked.target, request, places) for suite in checked.suites]


def main(arguments: ScheduleArguments, storage: str, console: Console) -> int:
    """Run the job: 0, or 1 when a pair was given up or a checkpoint could not be read.

    ValueError, CheckpointError, ShardError or StorageError for input that cannot be used;
    JobServerError when a single round could not reach the cluster.
    """
    check_schedule(arguments)
    storage = arguments.storage or storage
    if not (REPOSITORY / SCRIPT).is_file():
        raise ValueError(f"{REPOSITORY} has no {SCRIPT}: run this from a copy of the repository")
    if arguments.dry_run:
        found = survey(arguments, storage)
        _print_table(found, arguments, console)
        return 1 if found.troubled else 0
    jobs = RayJobs(_address(arguments))
    if arguments.once:
        return round_of(arguments, storage, jobs, console)
    repeat(lambda: round_of(arguments, storage, jobs, console), seconds(arguments.every))
    return 0


def repeat(
    work: Callable[[], Any],
    every: float,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Do `work` on a fixed grid of times, until stopped; a server that is away is tried again.

    Input that cannot be used is raised.
    """
    first = clock()
    while True:
        try:
            work()
        except (JobServerError, OSError) as error:
            logger.error("this round ended early: %s. The next one tries again", error)
        now = clock()
        sleep(next_start(first, every, now) - now)


def round_of(arguments: ScheduleArguments, storage: str, jobs: RayJobs, console: Console) -> int:
    """One round: 0 when everything has its result, else 1."""
    found = survey(arguments, storage)
    console.print(str(found), soft_wrap=True, markup=False)
    for trouble in found.troubled:
        logger.warning("not evaluated: %s", trouble)
    work = Round(
        pairs=found.missing,
        jobs=jobs,
        at_once=arguments.at_once,
        max_attempts=arguments.max_attempts,
        tell=lambda line: console.print(line, soft_wrap=True, markup=False),
    )
    work.run()
    return 1 if work.failed or found.troubled else 0


def _address(arguments: ScheduleArguments) -> str:
    return arguments.address or os.environ.get(ADDRESS_VARIABLES[0]) or DEFAULT_ADDRESS


def _print_table(found: Survey, arguments: ScheduleArguments, console: Console) -> None:
    """Print a round's action for each missing result."""
    table = Table("run", "images", "checkpoint", "suite", "what a round would do", box=None)
    table.columns[1].justify = "right"
    for pair in found.missing:
        target = pair.target.subject
        table.add_row(
            pair.run, f"{pair.images:,}", target.digest, pair.suite, _plan(pair, arguments)
        )
    if found.missing:
        console.print(table)
    console.print(str(found), soft_wrap=True, markup=False)
    for trouble in found.troubled:
        console.print(f"not evaluated: {trouble}", soft_wrap=True, markup=False)


def _plan(pair: Pair, arguments: ScheduleArguments) -> str:
    attempts = read_attempts(pair.records)
    failures = [each for each in attempts if each.status == "failed"]
    if attempts and attempts[-1].status == "submitted":
        return f"wait for {attempts[-1].submission_id}"
    if attempts and attempts[-1].status == "elsewhere":
        return "nothing: a job succeeded, and its result is not to be seen from here"
    if len(failures) >= arguments.max_attempts:
        return f"nothing: {count(len(failures), 'attempt')} failed: {failures[-1].short_reason}"
    why = f" after: {failures[-1].short_reason}" if failures else ""
    return f"submit attempt {len(failures) + 1} of {arguments.max_attempts}{why}"
