"""Scheduled evaluation on a cluster: find missing results, submit jobs to Ray's job server.

This process only asks and submits; the jobs run on the cluster and end without it.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from typing import Any

from unite.cluster.connect import REPOSITORY
from unite.cluster.jobs import ADDRESS_VARIABLES, JobServerError, RayJobs
from unite.drivers.survey import Survey, survey
from unite.scheduling.attempts import read_attempts
from unite.scheduling.requests import EvaluationRequest
from unite.scheduling.rounds import (
    Round,
    ScheduleArguments,
    check_schedule,
    next_start,
    seconds,
)
from unite.tables import print_table
from unite.words import count

logger = logging.getLogger(__name__)

DEFAULT_ADDRESS = "http://127.0.0.1:8265"
SCRIPT = "jobs/evaluate.py"


def main(arguments: ScheduleArguments, storage: str) -> int:
    """Run the job: 0, or 1 when a request was given up or a checkpoint could not be read.

    ValueError, CheckpointError, ShardError or StorageError for input that cannot be used;
    JobServerError when a single round could not reach the cluster.
    """
    check_schedule(arguments)
    address = job_server(arguments)
    storage = arguments.storage or storage
    if not (REPOSITORY / SCRIPT).is_file():
        raise ValueError(f"{REPOSITORY} has no {SCRIPT}: run this from a copy of the repository")
    if arguments.dry_run:
        found = survey(arguments, storage)
        _print_plan(found, arguments)
        return 1 if found.troubled else 0
    jobs = RayJobs(address)
    if arguments.once:
        return round_of(arguments, storage, jobs)
    repeat(lambda: round_of(arguments, storage, jobs), seconds(arguments.every))
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


def round_of(arguments: ScheduleArguments, storage: str, jobs: RayJobs) -> int:
    """One round: 0 when everything has its result, else 1."""
    found = survey(arguments, storage)
    print(found)
    for trouble in found.troubled:
        logger.warning("not evaluated: %s", trouble)
    work = Round(
        requests=found.missing,
        jobs=jobs,
        at_once=arguments.at_once,
        max_attempts=arguments.max_attempts,
    )
    work.run()
    return 1 if work.failed or found.troubled else 0


def job_server(arguments: ScheduleArguments) -> str:
    """URL of the job server; ValueError for HOST:PORT, which Ray takes for the head's own port."""
    variable = ADDRESS_VARIABLES[0]
    address = arguments.address or os.environ.get(variable) or DEFAULT_ADDRESS
    if "://" not in address:
        name = "--address" if arguments.address else variable
        raise ValueError(f"{name} {address} is no URL: write http://{address}")
    return address


def _print_plan(found: Survey, arguments: ScheduleArguments) -> None:
    """Print a round's action for each missing result."""
    rows = [
        (
            request.run,
            request.images,
            request.subject.digest,
            request.suite,
            _plan(request, arguments),
        )
        for request in found.missing
    ]
    if rows:
        print_table(("run", "images", "checkpoint", "suite", "what a round would do"), rows)
    print(found)
    for trouble in found.troubled:
        print(f"not evaluated: {trouble}")


def _plan(request: EvaluationRequest, arguments: ScheduleArguments) -> str:
    attempts = read_attempts(request.records)
    failures = [each for each in attempts if each.status == "failed"]
    if attempts and attempts[-1].status == "submitted":
        return f"wait for {attempts[-1].submission_id}"
    if attempts and attempts[-1].status == "elsewhere":
        return "nothing: a job succeeded, and its result is not to be seen from here"
    if len(failures) >= arguments.max_attempts:
        return f"nothing: {count(len(failures), 'attempt')} failed: {failures[-1].short_reason}"
    why = f" after: {failures[-1].short_reason}" if failures else ""
    return f"submit attempt {len(failures) + 1} of {arguments.max_attempts}{why}"
