"""Nodes that go away with a warning: Ray's drain, told to ranks and asked for by a node's agent.

Ray Train's watcher tells every worker of a group that one of its nodes drains (`notice`). What the
run does about it is in `training/requests.py`; a group that was cut off nevertheless is known by
its error (`is_preempted`) and costs no restart.
"""

from __future__ import annotations

from typing import Any

from unite.cluster.failures import causes, failures
from unite.network import answers
from unite.training.requests import Notice
from unite.words import count

ANSWER_S = 10.0
"""Seconds that the cluster may take to answer a node's agent."""


class DrainError(RuntimeError):
    """A node could not be drained; the message names the cluster and the reason."""


def notice() -> Notice | None:
    """The notice that this worker of Ray Train has got; asks nobody and never waits.

    `ray.train.get_preemption_info` is a barrier over all ranks, which a step cannot afford.
    """
    # Ray has no other way to it; the pin on one Ray version is what makes it safe.
    from ray.train.v2._internal.execution.context import get_train_context

    info = get_train_context().preemption_context.preemption_info
    if info is None:
        return None
    return Notice(
        deadline=(info.deadline_ms or 0) / 1000, nodes=frozenset(info.preempted_node_to_ranks)
    )


def is_preempted(error: Exception) -> bool:
    """True for the error of a group that was lost with a node whose end was told."""
    from ray.exceptions import RayActorError
    from ray.train.v2.api.exceptions import PreemptionError

    return isinstance(error, PreemptionError) or any(
        isinstance(cause, RayActorError) and cause.preempted
        for failure in failures(error)
        for cause in causes(failure)
    )


def drain(address: str, node: str, deadline: float, reason: str) -> None:
    """Tell the cluster at HOST:PORT that a node is gone at `deadline`, in seconds since 1970.

    Nothing new is scheduled there from now on, and what runs there hears of it. DrainError when
    the cluster does not answer or refuses.
    """
    from ray.core.generated import autoscaler_pb2
    from ray.exceptions import RayError

    reasons: Any = autoscaler_pb2  # what protobuf makes has no types
    preempted = reasons.DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
    head = _head(address)
    try:
        # Without a limit, Ray waits for a head that is gone and then ends this process.
        accepted, why = head.drain_node(
            node, preempted, reason, round(1000 * deadline), timeout=ANSWER_S
        )
    except (RayError, OSError, RuntimeError, ValueError) as error:
        raise DrainError(f"the cluster at {address} could not drain {node}: {error}") from error
    if not accepted:
        raise DrainError(f"the cluster at {address} refuses to drain {node}: {why}")


def own_node(address: str) -> str:
    """Identity of this machine's node in the cluster at HOST:PORT; DrainError without one."""
    from ray.core.generated import gcs_pb2
    from ray.exceptions import RayError
    from ray.util import get_node_ip_address

    states: Any = gcs_pb2
    here, alive = get_node_ip_address(), states.GcsNodeInfo.GcsNodeState.ALIVE
    head = _head(address)
    try:
        found = head.get_all_node_info(timeout=ANSWER_S, state_filter=alive)
    except (RayError, OSError, RuntimeError) as error:
        raise DrainError(f"no Ray cluster answers at {address}: {error}") from error
    mine = [each.node_id.hex() for each in found.values() if each.node_manager_address == here]
    if len(mine) != 1:
        raise DrainError(
            f"{count(len(mine), 'node')} of the cluster at {address} run on this machine ({here}): "
            "name the one that is meant with --node ID (`ray list nodes` shows them)"
        )
    return mine[0]


def _head(address: str) -> Any:
    """Client of the cluster's head, in a process that has not joined it.

    Ray itself would look for a head that is not there for most of a minute, at each call.
    """
    host, _, port = address.rpartition(":")
    if reason := answers(host, int(port), patience_s=ANSWER_S):
        raise DrainError(f"no Ray cluster answers at {address}: {reason}")
    # Ray has no public one; the pin on one Ray version is what makes it safe.
    from ray import _raylet

    client: Any = _raylet
    return client.GcsClient(address=address)
