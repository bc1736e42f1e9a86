"""Records of the jobs that were submitted for a pair: one JSON file per attempt.

    RUN/evaluations/CHECKPOINT/schedule/SUITE-PAIR/attempt-1.json, attempt-2.json, ...

Deleting the folder makes the scheduler forget that a pair has failed.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal

from unite.storage import StorageError, Store

PREFIX = "unite-evaluate-"
"""Prefix of submission ids, by which a scheduler knows its own kind of job."""
NAME = re.compile(r"attempt-([0-9]+)\.json")
MOST_REASON = 2000
"""Largest number of characters of a reason that are kept, from its end."""

Status = Literal["submitted", "succeeded", "elsewhere", "failed", "withdrawn"]
"""elsewhere: the job succeeded, and its result cannot be seen from here. withdrawn: another
scheduler's job had taken the last place at the same moment."""


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One job for one pair."""

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
    def new(cls, number: int, pair: str) -> Attempt:
        """The attempt of this number; its submission id follows from the pair's digest."""
        return cls(number=number, submission_id=f"{PREFIX}{pair}-{number}", submitted_at=_now())

    def ended(self, status: Status, reason: str = "") -> Attempt:
        """The same attempt when its outcome is known."""
        return replace(self, status=status, ended_at=_now(), reason=reason.strip()[-MOST_REASON:])

    @property
    def short_reason(self) -> str:
        """The last line of the reason, which is the error itself in a job's log."""
        lines = self.reason.splitlines()
        return lines[-1].strip() if lines else "no reason was given"


def read_attempts(folder: Store) -> list[Attempt]:
    """The attempts of a pair, in their order; StorageError names a file that is none."""
    found = []
    for name in folder.list():
        if not NAME.fullmatch(name):
            continue
        try:
            found.append(Attempt(**folder.read_json(name)))
        except TypeError as error:
            raise StorageError(f"{folder}/{name} is no record of a job: {error}") from error
    return sorted(found, key=lambda attempt: attempt.number)


def write_attempt(folder: Store, attempt: Attempt) -> None:
    """Write an attempt; it replaces the earlier record of it."""
    folder.write_json(f"attempt-{attempt.number}.json", dataclasses.asdict(attempt))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
