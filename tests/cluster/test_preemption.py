"""Errors and notices of nodes that go away; with a cluster: tests/fault/test_spot.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError
from ray.train.v2._internal.exceptions import WorkerHealthCheckFailedError
from ray.train.v2._internal.execution import context
from ray.train.v2.api.exceptions import PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from unite.cluster.preemption import DrainError, drain, is_preempted, notice, own_node
from unite.training.requests import Notice

INFO = PreemptionInfo(deadline_ms=1_500, preempted_node_to_ranks={"node": [0, 1]})


def died(*, preempted: bool) -> RayActorError:
    return RayActorError(preempted=preempted)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PreemptionError(preemption_info=INFO), True),
        (WorkerGroupError("lost", {0: ValueError("gloo"), 1: died(preempted=True)}), True),
        (WorkerGroupError("lost", {0: ValueError("gloo"), 1: died(preempted=False)}), False),
        (
            WorkerGroupError(
                "lost", {1: WorkerHealthCheckFailedError("lost", died(preempted=True))}
            ),
            True,
        ),
        (died(preempted=True), True),
        (ValueError("its own"), False),
    ],
)
def test_a_group_lost_with_a_node_whose_end_was_told_is_known(error, expected):
    assert is_preempted(error) is expected


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (None, None),
        (INFO, Notice(deadline=1.5, nodes=frozenset({"node"}))),
        (
            PreemptionInfo(deadline_ms=None, preempted_node_to_ranks={"a": [0], "b": [1]}),
            Notice(deadline=0.0, nodes=frozenset({"a", "b"})),
        ),
    ],
)
def test_what_ray_tells_a_worker_becomes_a_notice(monkeypatch, info, expected):
    told = SimpleNamespace(preemption_context=SimpleNamespace(preemption_info=info))
    monkeypatch.setattr(context, "_train_context", told)
    assert notice() == expected


def test_a_cluster_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("unite.cluster.preemption.ANSWER_S", 1.0)
    with pytest.raises(DrainError, match="127.0.0.1:9"):
        own_node("127.0.0.1:9")
    with pytest.raises(DrainError, match="127.0.0.1:9"):
        drain("127.0.0.1:9", "ab" * 28, 0.0, "a test")
