"""The decision on a lost group in Ray Train's controller; with a cluster: test_train.py."""

from __future__ import annotations

import pickle

import pytest
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import ControllerError, FailureConfig, ScalingConfig, WorkerGroupError
from ray.train.v2._internal.exceptions import (
    WorkerGroupStartupFailedError,
    WorkerHealthCheckFailedError,
)
from ray.train.v2._internal.execution.failure_handling import FailureDecision
from ray.train.v2._internal.execution.scaling_policy import NoopDecision
from ray.train.v2.api.exceptions import PreemptionError
from ray.train.v2.api.preemption import PreemptionInfo

from unite.cluster import elastic
from unite.cluster import restarts as module
from unite.cluster.connect import CapacityError
from unite.cluster.losses import TrainingError
from unite.cluster.restarts import Restarts, Sizes
from unite.cluster.train import _raise_own
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.storage import StorageError, Store
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


def test_a_storage_that_goes_away_while_a_loss_is_counted_is_left_to_the_driver(
    restarts, monkeypatch
):
    """An error of the policy would end the controller, and the run with it."""

    def away(run):
        raise StorageError("cannot list s3://b/run: AWS Error SLOW_DOWN")

    monkeypatch.setattr("unite.cluster.losses.latest", away)
    assert restarts.make_decision(lost()) is END


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


class Room:
    """A cluster of one node: all CPUs, and those that the ended group and others leave free."""

    def __init__(self, monkeypatch, turned_clock, have: float) -> None:
        self.have = self.free = have
        self.now = 0.0
        turned_clock(elastic, monotonic=lambda: self.now)
        monkeypatch.setattr(module, "nodes", self.nodes)

    def nodes(self, *, free=False, ending=None, answering=False) -> list[dict[str, float]]:
        assert answering, "a lost node is there for a quarter of a minute"
        return [{"CPU": self.free if free else self.have, "GPU": 0.0}]


@pytest.fixture
def room(monkeypatch, turned_clock):
    return Room(monkeypatch, turned_clock, 9.0)


@pytest.fixture
def sizes(tmp_path, monkeypatch):
    """Of a run of 2..8 workers whose driver has chosen 4; they may take 60 s to find room."""
    monkeypatch.setattr(Sizes, "_maybe_send_resource_request", lambda self: None)
    flags = {"cluster.num_workers": "2..8", "cluster.cpus_per_worker": 1.0}
    job = Job(config=replace(recipe("smoke"), flags), folder=Store.open(tmp_path))
    return Sizes(ScalingConfig(num_workers=4), job, patience_s=60.0)


def decided(sizes) -> int:
    """Workers of the next group; 0 = it is asked again."""
    decision = sizes.make_decision_for_non_running_worker_group()
    return 0 if isinstance(decision, NoopDecision) else decision.num_workers


def test_the_first_group_is_the_drivers_and_the_next_one_what_is_free(sizes, room, caplog):
    assert decided(sizes) == 4
    assert not caplog.messages
    room.have = room.free = 2.75  # a node is lost with the group
    assert decided(sizes) == 2
    assert caplog.messages == ["2 workers of 2..8"]
    assert sizes._get_num_workers_for_resource_request() == 2, "the rest is Ray Data's"
    room.have = room.free = 9.0
    assert [decided(sizes), decided(sizes)] == [8, 8]
    assert caplog.messages[1:] == ["8 workers of 2..8"], "a size that stays is not told"


def test_what_others_hold_is_waited_for_a_while(sizes, room):
    decided(sizes)
    room.free = 8.25  # eight workers and half a CPU of Ray Data's
    assert decided(sizes) == 0
    room.now = elastic.SETTLE_SECONDS
    assert decided(sizes) == 4, "it belongs to another run"


def test_room_for_the_smallest_is_waited_for_and_then_the_driver_hears(sizes, room):
    decided(sizes)
    room.have = room.free = 1.0
    assert decided(sizes) == 0
    room.now = 60.0
    with pytest.raises(CapacityError, match="2 workers at 1 CPU each") as full:
        decided(sizes)
    travelled = pickle.loads(pickle.dumps(ControllerError(full.value)))
    with pytest.raises(CapacityError, match="2 workers at 1 CPU each"):
        _raise_own(travelled, sizes.job, group=None)


def test_each_loss_has_all_of_its_patience(sizes, room):
    decided(sizes)
    for _ in range(2):
        room.free = 1.0
        assert decided(sizes) == 0
        room.now, room.free = room.now + 59.0, 9.0
        assert decided(sizes) == 8
