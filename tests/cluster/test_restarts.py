"""The decision on a lost group in Ray Train's controller; with a cluster: test_train.py."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import ControllerError, FailureConfig, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from unite.cluster.losses import TrainingError
from unite.cluster.restarts import Restarts
from unite.cluster.train import _raise_own
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.storage import Store
from unite.training.interruptions import present
from unite.training.setup import Job

AGAIN, END = FailureDecision.RETRY, FailureDecision.RAISE
NOT_STARTED = ControllerError(WorkerGroupStartupFailedError("no room"))


def lost(*, preempted=False):
    died = RayActorError(preempted=preempted)
    return WorkerGroupError("lost", {1: WorkerHealthCheckFailedError("lost", died)})


@pytest.fixture
def restarts(tmp_path):
    """Of a run that was at 96 images and may lose two groups; a group may fail to start once."""
    folder = Store.open(tmp_path)
    folder.write_json("progress.json", {"state": "training", "images": 96, "time": 100.0})
    config = replace(recipe("smoke"), {"cluster.max_failures": 2})
    limits = FailureConfig(controller_failure_limit=1, max_preemption_failures=0)
    return Restarts(limits, Job(config=config, folder=folder))


def test_lost_workers_are_replaced_up_to_the_limit_of_the_run(restarts):
    assert [restarts.make_decision(lost()) for _ in range(3)] == [AGAIN, AGAIN, END]


def test_the_next_group_learns_why_the_last_one_ended(restarts):
    restarts.make_decision(lost())
    one = present(restarts.job.folder)
    assert (one.reason, one.seen, one.time) == ("lost", 96, 100.0)


def test_a_rank_that_hung_is_told(restarts, caplog):
    restarts.job.folder.write_json("hangs/last.json", {"line": "rank 1 hangs"})
    assert restarts.make_decision(lost()) is AGAIN
    assert caplog.messages[0].startswith("rank 1 hangs")
    assert present(restarts.job.folder).reason == "hung"


@pytest.mark.parametrize(
    ("make", "free"), [(lost, 0), (lambda: ControllerError(ActorDiedError()), 1)]
)
def test_the_driver_hears_that_the_limit_was_counted_here(restarts, make, free):
    errors = [make() for _ in range(free + 3)]
    decisions = [restarts.make_decision(error) for error in errors]
    assert decisions == [*[AGAIN] * (free + 2), END]
    travelled = pickle.loads(pickle.dumps(errors[-1]))
    with pytest.raises(TrainingError, match=r"lost 3 times in a row .*max_failures = 2 allows"):
        _raise_own(travelled, restarts.job, group=None)


@pytest.mark.parametrize(
    "error",
    [
        WorkerGroupError("its own", {0: ValueError("a bad batch")}),
        PreemptionError(PreemptionInfo(deadline_ms=1, preempted_node_to_ranks={"node": [1]})),
        lost(preempted=True),
        ControllerError(RuntimeError("its own")),
    ],
)
def test_what_is_no_loss_is_left_to_the_driver_and_not_counted(restarts, error):
    assert restarts.make_decision(error) is END
    assert restarts.losses.lost == 0
    assert present(restarts.job.folder) is None


def test_a_group_that_dies_at_its_start_is_a_part_of_the_loss_before_it(restarts):
    assert restarts.make_decision(lost()) is AGAIN
    assert restarts.make_decision(ControllerError(ActorDiedError())) is AGAIN
    assert restarts.losses.lost == 1


def test_every_group_has_all_of_its_starts(restarts):
    for _ in range(2):
        assert restarts.make_decision(NOT_STARTED) is AGAIN
        assert restarts.make_decision(lost()) is AGAIN
    decisions = [restarts.make_decision(NOT_STARTED) for _ in range(2)]
    assert decisions == [AGAIN, END]
