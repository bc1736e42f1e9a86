"""Ray's job server, as scheduled evaluation needs it: submit under an id, list, stop."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from shlex import join
from typing import Any, Literal, TypeVar

from unite.cluster.connect import REPOSITORY
from unite.network import DEADLINE_S, spare_loopback, within

T = TypeVar("T")

ADDRESS_VARIABLES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
NO_AGENT = "No available agent"
AGENT_SECONDS = 120.0
"""Seconds that a head may take until it can start jobs."""
UPLOAD_SECONDS = 600.0
"""Seconds that the copy of the repository to the cluster may take."""
CHATTER = (
    "ray._private.runtime_env.packaging",
    "ray._private.runtime_env.working_dir",
    "ray.dashboard.modules.dashboard_sdk",
)
"""Loggers that tell of every upload which files they leave out."""
_ENVIRONMENT = threading.Lock()


class JobServerError(RuntimeError):
    """Ray's job server does not answer or refuses; the message names it and the fix."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as the cluster knows it."""

    status: Literal["running", "succeeded", "failed"]
    """Status of the job: waiting counts as running, stopped as failed."""
    reason: str = ""
    submitted_at: float = 0.0
    """Time of submission by the cluster's clock; only the order of jobs is read from it."""


@dataclass
class RayJobs:
    """The job server of a cluster; it is asked for the first time when it is needed."""

    address: str

    def submit(self, submission_id: str, words: Sequence[str], about: Mapping[str, str]) -> bool:
        """Start a job in a copy of this repository; False when there is one of that id already.

        A head that has just started cannot start jobs for some seconds: that is waited for.
        """
        deadline = time.monotonic() + AGENT_SECONDS
        while True:
            try:
                self._ask(
                    lambda client: client.submit_job(
                        entrypoint=join(words),
                        submission_id=submission_id,
                        # Settings are those of the nodes, as for `ray job submit`: a variable that
                        # was set here could not be set by the job's own driver any more.
                        runtime_env={"working_dir": str(REPOSITORY)},
                        metadata=dict(about),
                    ),
                    UPLOAD_SECONDS,
                )
                return True
            except JobServerError as error:
                if submission_id in self.known():
                    return False
                if NO_AGENT not in str(error) or time.monotonic() > deadline:
                    raise
            time.sleep(1.0)

    def stop(self, submission_id: str) -> None:
        """Ask a job to end; one that has ended stays as it is."""
        self._ask(lambda client: client.stop_job(submission_id))

    def known(self) -> Mapping[str, Job]:
        """Every submitted job by its id."""
        found = self._ask(lambda client: client.list_jobs())
        return {each.submission_id: _job(each) for each in found if each.submission_id}

    @cached_property
    def _client(self) -> Any:
        from ray.job_submission import JobSubmissionClient

        spare_loopback()
        for noisy in CHATTER:
            logging.getLogger(noisy).setLevel(logging.ERROR)
        with _sole_address(self.address):
            return JobSubmissionClient(self.address)

    def _ask(self, call: Callable[[Any], T], seconds: float = DEADLINE_S) -> T:
        """Result of `call` on the client, within a deadline; the client itself has none."""
        from ray.exceptions import AuthenticationError

        late = f"nothing came within {seconds:g} s"
        try:
            return within(lambda: call(self._client), seconds, late)
        except AuthenticationError as error:
            raise JobServerError(
                f"the job server at {self.address} wants a token: set RAY_AUTH_MODE=token, and "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's"
            ) from error
        except (RuntimeError, OSError) as error:  # requests' errors are OSErrors
            reason = " ".join(str(error).split())[-500:].rstrip(". ")
            raise JobServerError(
                f"the job server at {self.address} did not answer as it should: {reason}. Name "
                "another with --address or RAY_API_SERVER_ADDRESS"
            ) from error


def _job(details: Any) -> Job:
    if not details.status.is_terminal():
        return Job(status="running", submitted_at=float(details.start_time or 0))
    if details.status == "SUCCEEDED":
        return Job(status="succeeded")
    return Job(status="failed", reason=details.message or "")


@contextmanager
def _sole_address(address: str) -> Iterator[None]:
    """Context without the variables that Ray would prefer to the given address."""
    with _ENVIRONMENT:
        before = {name: os.environ.pop(name, None) for name in ADDRESS_VARIABLES}
        os.environ[ADDRESS_VARIABLES[0]] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS_VARIABLES[0]]
            os.environ.update({name: value for name, value in before.items() if value is not None})
