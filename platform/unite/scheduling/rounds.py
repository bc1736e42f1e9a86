"""A round of scheduled evaluation: every request without a result gets one job at a time.

Two schedulers never run a request twice at once, for this reason. A submission id follows from the
request and the number of the attempt, and a cluster's job server takes an id once: of any number of
schedulers that submit attempt 1, one is accepted and the others find the same job. Attempt 2 exists
only after attempt 1 is known to have ended. So the job server is the lock. A claim file in the
storage would be a worse one: when its owner dies somebody has to break it, and nobody can tell a
dead owner from a slow one, while the job server knows which jobs are alive.

What the storage adds is memory: the attempts and their reasons outlive the cluster. A recorded job
that the cluster does not know went down with an earlier head, and counts as failed. That is safe
because records are read before the job server is asked: a job is recorded after it was accepted, so
whatever is recorded was known there, unless the head is another one.

How many jobs run at once is looked up before a job is submitted, and again afterwards: schedulers
that filled the last place at the same moment all see who was first, and the others withdraw.

The guarantee holds for one cluster. Schedulers of two clusters on one storage do not see each
other's jobs and may do work twice (never wrongly: finished chunks are kept, and written whole).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import tyro

from unite.cluster.jobs import Job, RayJobs
from unite.evaluation.arguments import EvaluateArguments, check, chosen_suites
from unite.scheduling.attempts import PREFIX, Attempt, read_attempts, write_attempt
from unite.scheduling.requests import EvaluationRequest, command

POLL_SECONDS = 5.0
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
OUTCOMES = {"succeeded": "has its result", "elsewhere": "ended", "failed": "failed"}
GONE = "the cluster does not know the job any more: its head was restarted"
ELSEWHERE = (
    "the job succeeded, but its result is not where one made here would be: this machine has other "
    "versions of the libraries, or sees other pretrained files"
)


@dataclass(frozen=True, kw_only=True)
class ScheduleArguments(EvaluateArguments):
    """Evaluate checkpoints that have no result yet. The flags of jobs/evaluate.py say how."""

    run: str = ""
    """Run or checkpoint to evaluate (as for evaluate.py); empty = every run in the storage, and
    those of the MLflow experiment that can be reached from here."""
    once: bool = False
    """One round: submit, wait until everything has a result or has failed for good, and end."""
    every: str = ""
    """Period of the rounds, such as 30m, 6h or 1d; they go on until stopped."""
    dry_run: bool = False
    """Print the jobs without submitting them."""
    order: Literal["newest", "oldest"] = "newest"
    """Order of the checkpoints by time: newest or oldest first."""
    at_once: int = 1
    """Largest number of jobs on the cluster at the same time."""
    max_attempts: int = 3
    """Number of failed jobs after which a checkpoint and suite are given up."""
    address: str = ""
    """URL of Ray's job server; empty = RAY_API_SERVER_ADDRESS, else http://127.0.0.1:8265."""
    experiment: str = "unite"
    """MLflow experiment to look for runs in; empty = the storage alone."""
    push: Annotated[str, tyro.conf.Suppress] = ""


def check_schedule(arguments: ScheduleArguments) -> None:
    """ValueError for values that no schedule can have."""
    check(arguments)
    chosen_suites(arguments.suite)
    if sum((arguments.once, bool(arguments.every), arguments.dry_run)) != 1:
        raise ValueError("give one of --once, --every TIME (such as 6h) and --dry-run")
    if arguments.every:
        seconds(arguments.every)
    for name in ("at_once", "max_attempts"):
        if getattr(arguments, name) < 1:
            raise ValueError(f"--{name.replace('_', '-')} must be at least 1")


def seconds(text: str) -> int:
    """30m, 6h, 1d in seconds; ValueError for anything else."""
    match = re.fullmatch(r"([1-9][0-9]*)([smhd])", text.strip())
    if match is None:
        raise ValueError(f"--every {text!r}: give a number and s, m, h or d, such as 30m or 6h")
    return int(match[1]) * UNITS[match[2]]


def next_start(first: float, every: float, now: float) -> float:
    """Start of the next round: the first time after `now` on the grid first + k * every.

    Rounds that were missed are not made up for: the next one finds all that is missing.
    """
    return first + every * (math.floor((now - first) / every) + 1)


def in_order(
    requests: Sequence[EvaluationRequest], order: Literal["newest", "oldest"]
) -> list[EvaluationRequest]:
    """Requests by the time of their checkpoints; suites of one checkpoint keep their order."""
    return sorted(requests, key=lambda request: request.committed, reverse=order == "newest")


@dataclass(kw_only=True)
class Round:
    """Brings requests to a result, at most `at_once` at a time."""

    requests: Sequence[EvaluationRequest]
    """Requests without a result, in the order in which they are wanted."""
    jobs: RayJobs
    at_once: int = 1
    max_attempts: int = 3
    tell: Callable[[str], None] = print
    sleep: Callable[[float], None] = time.sleep
    failed: list[EvaluationRequest] = field(default_factory=list)
    """Requests that were given up."""
    _attempts: dict[str, list[Attempt]] = field(default_factory=dict)
    """Request's digest -> its attempts, as they were last read."""
    _gone: set[str] = field(default_factory=set)
    """Digests of requests whose checkpoint was deleted meanwhile."""

    def run(self) -> None:
        """Submit, look and submit again until every request has a result or was given up."""
        for request in self.requests:
            self._read(request)
        left = list(self.requests)
        while left:
            in_flight = [request for request in left if self._in_flight(request)]
            for request in in_flight:
                self._read(request)  # another scheduler may have noted its end
            known = self.jobs.known()  # after the records, as the head of this file explains
            for request in in_flight:
                self._settle(request, known)
            left = [request for request in left if not self._is_over(request)]
            self._submit(left, known)
            if left:
                self.sleep(POLL_SECONDS)

    def _submit(self, requests: Sequence[EvaluationRequest], known: Mapping[str, Job]) -> None:
        """Fill the free places, with requests that failed least first."""
        free = self.at_once - len(_running(known))
        waiting = [request for request in requests if not self._in_flight(request)]
        for request in sorted(waiting, key=lambda request: len(self._failures(request))):
            if free <= 0:
                return
            seen = self._attempts[request.digest]
            self._read(request)
            # Another scheduler may have been faster, and its job may even have ended: then the
            # next look tells whether anything is left to do.
            if self._attempts[request.digest] == seen and not self._is_gone(request):
                self._submit_one(request, known)
                free -= 1

    def _next(self, request: EvaluationRequest, known: Mapping[str, Job]) -> Attempt:
        """The next attempt. Whoever deletes records has a request tried again, and the cluster
        still knows the jobs that they were of: their ids are taken."""
        attempts = self._attempts[request.digest]
        attempt = Attempt.new(attempts[-1].number + 1 if attempts else 1, request.digest)
        while (job := known.get(attempt.submission_id)) and job.status != "running":
            if request.has_result():
                break
            attempt = Attempt.new(attempt.number + 1, request.digest)
        return attempt

    def _submit_one(self, request: EvaluationRequest, known: Mapping[str, Job]) -> None:
        attempt = self._next(request, known)
        about = {"run": request.run, "images": str(request.images), "suite": request.suite}
        accepted = self.jobs.submit(attempt.submission_id, command(request), about)
        self._read(request)
        if attempt.number not in [each.number for each in self._attempts[request.digest]]:
            self._note(request, attempt)
        whose = "submitted" if accepted else "is another scheduler's job:"
        self.tell(f"{request}: attempt {attempt.number} {whose} {attempt.submission_id}")
        if accepted and attempt.submission_id in _running(self.jobs.known())[self.at_once :]:
            # Noted first, so that nobody takes its end for a failure.
            self._note(request, attempt.ended("withdrawn", "another scheduler's job was first"))
            self.jobs.stop(attempt.submission_id)
            self.tell(f"{request}: attempt {attempt.number} withdrawn: another job was first")

    def _settle(self, request: EvaluationRequest, known: Mapping[str, Job]) -> None:
        """Note the outcome of a request's job, when it has ended."""
        attempt = self._attempts[request.digest][-1]
        job = known.get(attempt.submission_id) or Job(status="failed", reason=GONE)
        if attempt.status != "submitted" or job.status == "running":
            return
        self._read(request)
        if self._attempts[request.digest][-1] != attempt:
            return  # another scheduler has noted its end meanwhile, or withdrew it
        if request.has_result():
            attempt = attempt.ended("succeeded", job.reason if job.status == "failed" else "")
        elif job.status == "succeeded":
            attempt = attempt.ended("elsewhere", ELSEWHERE)
        else:
            attempt = attempt.ended("failed", job.reason)
        self._note(request, attempt)
        why = f": {attempt.short_reason}" if attempt.reason else ""
        self.tell(f"{request}: attempt {attempt.number} {OUTCOMES[attempt.status]}{why}")

    def _is_over(self, request: EvaluationRequest) -> bool:
        """True if a request has its result, was given up or lost its checkpoint."""
        if request.digest in self._gone:
            return True
        attempts, failures = self._attempts[request.digest], self._failures(request)
        last = attempts[-1].status if attempts else ""
        if last == "failed" and len(failures) >= self.max_attempts:
            if self._is_gone(request):
                return True
            self.failed.append(request)
            self.tell(f"{request}: given up after {len(failures)} attempts: {request.records}")
            return True
        return last == "elsewhere" or (last == "succeeded" and request.has_result())

    def _is_gone(self, request: EvaluationRequest) -> bool:
        """True, which is told, if its training keeps the checkpoint no more."""
        if request.is_gone:
            self._gone.add(request.digest)
            self.tell(f"{request}: its checkpoint is gone")
        return request.digest in self._gone

    def _failures(self, request: EvaluationRequest) -> list[Attempt]:
        return [each for each in self._attempts[request.digest] if each.status == "failed"]

    def _in_flight(self, request: EvaluationRequest) -> bool:
        attempts = self._attempts[request.digest]
        return bool(attempts) and attempts[-1].status == "submitted"

    def _read(self, request: EvaluationRequest) -> None:
        self._attempts[request.digest] = read_attempts(request.records)

    def _note(self, request: EvaluationRequest, attempt: Attempt) -> None:
        write_attempt(request.records, attempt)
        self._read(request)


def _running(known: Mapping[str, Job]) -> list[str]:
    """The ids of evaluation jobs that have not ended, in the order in which they came."""
    ours = {
        name: job
        for name, job in known.items()
        if name.startswith(PREFIX) and job.status == "running"
    }
    return sorted(ours, key=lambda name: (ours[name].submitted_at, name))
