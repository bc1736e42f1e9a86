"""Errors of a Ray Train group, out of Ray's wrapping, and in words."""

from __future__ import annotations

from collections.abc import Iterator

from unite.storage import Store
from unite.training.watchdog import node_of


def failures(error: Exception) -> list[BaseException]:
    """The errors behind that of a fit."""
    if inner := getattr(error, "controller_failure", None):
        return [inner]
    return list(getattr(error, "worker_failures", {}).values()) or [error]


def causes(failure: BaseException) -> Iterator[BaseException]:
    """A failure and what lies behind it, through Ray's wrapping."""
    cause: BaseException | None = failure
    while cause is not None:
        yield cause
        inner = getattr(cause, "_base_exc", None) or getattr(cause, "health_check_failure", None)
        cause = inner or cause.__cause__


def is_controller_lost(error: Exception) -> bool:
    """True for the error of a fit that ended with Ray Train's controller, or with a worker that it
    was starting: before anything of the run was computed."""
    from ray.exceptions import RayActorError

    ends = (error, getattr(error, "controller_failure", None))
    return any(isinstance(each, RayActorError) and not each.actor_init_failed for each in ends)


def lost_in_words(error: Exception, run: Store) -> str:
    """Kind of the first failure, after the rank that it is of and that rank's node."""
    kind = type(failures(error)[0]).__name__
    for rank in getattr(error, "worker_failures", {}):
        node = node_of(run, rank)
        return f"rank {rank}{f' on {node}' if node else ''}: {kind}"
    return kind
