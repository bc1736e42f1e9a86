"""Records of the jobs that were submitted for a request: one JSON file per attempt.

    RUN/evaluations/CHECKPOINT/schedule/SUITE-DIGEST/attempt-1.json, attempt-2.json, ...

Deleting the folder makes the scheduler forget that a request has failed.
"""

from __future__ import annotations

import dataclasses
import logging
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from unite.storage import Store

PREFIX = "unite-evaluate-"
"""Prefix of submission ids, by which a scheduler knows its own kind of job."""
NAME = re.compile(r"attempt-([0-9]+)\.json")
MOST_REASON = 2000
"""Largest number of characters of a reason that are kept, from its end."""

logger = logging.getLogger(__name__)

Status = Literal["submitted", "succeeded", "elsewhere", "failed", "withdrawn"]
"""elsewhere: the job succeeded, and its result cannot be seen from here. withdrawn: another
scheduler's job had taken the last place at the same moment."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One job for one request."""

    number: int
    """Number of the attempt: 1, 2, ..."""
    submission_id: str
    """The job's name on the cluster."""
    submitted_at: str
    """Time of submission, UTC, ISO 8601."""
    status: Status = "submitted"
    ended_at: str = ""
    """Time at which its end was seen, UTC, ISO 8601; empty = not yet."""
    reason: str = ""
    """Reason of its failure, or a remark on its success."""

    @classmethod
    def new(cls, number: int, request: str) -> Attempt:
        """The attempt of this number; its submission id follows from the request's digest."""
        return cls(number=number, submission_id=f"{PREFIX}{request}-{number}", submitted_at=_now())

    def ended(self, status: Status, reason: str = "") -> Attempt:
        """The same attempt when its outcome is known."""
        return replace(self, status=status, ended_at=_now(), reason=reason.strip()[-MOST_REASON:])

    @property
    def short_reason(self) -> str:
        """The last line of the reason, which is the error itself in a job's log."""
        lines = self.reason.splitlines()
        return lines[-1].strip() if lines else "no reason was given"


def read_attempts(folder: Store) -> list[Attempt]:
    """The attempts of a request, in their order.

    A damaged record is told. It is of a job that was submitted: number and name are known, and the
    job server says what became of it.
    """
    names = [name for name in folder.list() if NAME.fullmatch(name)]
    return sorted((_read(folder, name) for name in names), key=lambda attempt: attempt.number)


def _read(folder: Store, name: str) -> Attempt:
    fields = {"number": int, "submission_id": str, "submitted_at": str, "status": str}
    try:
        return Attempt(**folder.read_json(name, fields, ValueError))
    except (TypeError, ValueError) as error:
        logger.warning("%s/%s is no record of a job: %s. The cluster is asked", folder, name, error)
    number, request = int(name[len("attempt-") : -len(".json")]), folder.name.rpartition("-")[2]
    return Attempt(number=number, submission_id=f"{PREFIX}{request}-{number}", submitted_at="")


def write_attempt(folder: Store, attempt: Attempt) -> None:
    """Write an attempt; it replaces the earlier record of it."""
    folder.write_json(f"attempt-{attempt.number}.json", dataclasses.asdict(attempt))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
