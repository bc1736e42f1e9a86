"""Rules by which workers and trials are laid out over a cluster; no Ray is started."""

import pytest

from unite.cluster.connect import CapacityError
from unite.cluster.resources import (
    WorkerGroup,
    beside_each_other,
    pool_workers,
    train_workers,
    trains_inside,
    trial_layout,
    wait_for,
)
from unite.config.schema import ClusterConfig
from unite.evaluation.arguments import WorkerArguments

HAVE = [{"CPU": 8.0, "GPU": 2.0}]


@pytest.mark.parametrize(
    ("asked", "workers", "use_gpu"),
    [
        (WorkerArguments(), 8, False),
        (WorkerArguments(num_workers=5), 5, False),
        (WorkerArguments(use_gpu=True), 2, True),
        (WorkerArguments(use_gpu=True, num_workers=1), 1, True),
    ],
)
def test_workers_follow_from_the_cluster(asked, workers, use_gpu):
    expected = WorkerGroup(num_workers=workers, cpus_per_worker=1.0, use_gpu=use_gpu)
    assert pool_workers(asked, HAVE) == expected


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            WorkerArguments(num_workers=9),
            "--num-workers 9 with one CPU .* has 2 GPUs and 8 CPUs",
        ),
        (WorkerArguments(num_workers=3, use_gpu=True), "--num-workers 3 with one GPU each"),
    ],
)
def test_more_evaluation_workers_than_the_cluster_holds_are_refused(asked, message):
    with pytest.raises(CapacityError, match=message):
        pool_workers(asked, HAVE)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(CapacityError, match="0 GPUs .* Drop --use-gpu"):
        pool_workers(WorkerArguments(use_gpu=True), [{"CPU": 8.0, "GPU": 0.0}])


@pytest.mark.parametrize(
    ("workers", "cpus", "have", "message"),
    [
        (4, 0.0, [2.0], r"4 workers .*the cluster has 2 CPUs.*--cluster.num-workers"),
        (2, 1.0, [2.0], r"At most 1 worker can start"),
        (1, 3.0, [2.0, 2.0], r"a worker lives on one node, and these hold 0 of them: 2 CPUs and"),
        (3, 2.0, [3.0, 3.0, 1.0], r"these hold 2 of them"),
    ],
)
def test_more_than_the_cluster_has_is_refused_with_what_it_has(workers, cpus, have, message):
    nodes = [{"CPU": each, "GPU": 0.0} for each in have]
    with pytest.raises(CapacityError, match=message):
        train_workers(ClusterConfig(num_workers=workers, cpus_per_worker=cpus), nodes)


def test_missing_gpus_are_refused():
    with pytest.raises(CapacityError, match="the cluster has 1 GPU\\."):
        train_workers(ClusterConfig(num_workers=2, use_gpu=True), [{"CPU": 64.0, "GPU": 1.0}])


def test_gpus_without_cpus_beside_them_are_refused():
    nodes = [{"CPU": 0.0, "GPU": 2.0}, {"CPU": 64.0, "GPU": 0.0}]
    with pytest.raises(CapacityError, match="these hold 0 of them"):
        train_workers(ClusterConfig(num_workers=2, use_gpu=True), nodes)


@pytest.mark.parametrize(("workers", "each"), [(1, 1.0), (2, 0.75)])
def test_two_cores_hold_workers_and_ray_data(workers, each):
    given = train_workers(ClusterConfig(num_workers=workers), [{"CPU": 2.0, "GPU": 0.0}])
    assert given.cpus_per_worker == each
    assert workers * each <= 1.5


@pytest.mark.parametrize(
    ("cluster", "inside"),
    [({}, True), ({"num_workers": 2}, False), ({"use_gpu": True}, False)],
)
def test_the_rule_of_where_a_trial_trains(cluster, inside):
    assert trains_inside(ClusterConfig(**cluster)) is inside


def test_trials_of_one_worker_take_every_cpu():
    nodes = [{"CPU": 2.0, "GPU": 0.0}, {"CPU": 1.5, "GPU": 0.0}]
    layout = trial_layout(ClusterConfig(), nodes)
    assert (layout.concurrent, layout.trial_cpus, layout.group) == (3, 1.0, None)


@pytest.mark.parametrize(
    ("workers", "cpus", "have", "concurrent"),
    [
        (2, 0.75, [(2.0, 0.0)], 1),
        (2, 1.0, [(16.0, 0.0)], 6),
        (2, 1.0, [(64.0, 8.0)], 4),
        (2, 1.0, [(32.0, 4.0), (2.0, 4.0)], 3),  # the GPUs of two cannot be fed
    ],
)
def test_worker_groups_fit_beside_each_other_and_ray_data(workers, cpus, have, concurrent):
    nodes = [{"CPU": cpu, "GPU": gpu} for cpu, gpu in have]
    use_gpu = have[0][1] > 0
    given = WorkerGroup(num_workers=workers, cpus_per_worker=cpus, use_gpu=use_gpu)
    layout = beside_each_other(given, nodes)
    assert layout.concurrent == concurrent
    total = sum(cpu for cpu, _ in have)
    assert layout.concurrent * (workers * cpus + layout.trial_cpus) <= total


def test_a_cluster_without_cpus_is_refused():
    with pytest.raises(CapacityError, match="the cluster has 0.5.*set --wait-s"):
        trial_layout(ClusterConfig(), [{"CPU": 0.5, "GPU": 0.0}])
    with pytest.raises(CapacityError, match="no node of the cluster has one"):
        trial_layout(ClusterConfig(), [{"CPU": 0.5, "GPU": 0.0}] * 2)


def test_a_cluster_that_grows_in_time_is_waited_for(monkeypatch):
    sizes = iter([1.0, 1.0, 4.0])
    monkeypatch.setattr("unite.cluster.resources.nodes", lambda: [{"CPU": next(sizes), "GPU": 0.0}])
    bundles_asked: list[int] = []
    monkeypatch.setattr(
        "ray.autoscaler.sdk.request_resources", lambda bundles: bundles_asked.append(len(bundles))
    )
    monkeypatch.setattr("unite.cluster.resources.POLL_SECONDS", 0.0)
    asked = WorkerArguments(num_workers=4, wait_s=60.0)
    assert wait_for(lambda have: pool_workers(asked, have), asked).num_workers == 4
    assert next(sizes, None) is None
    assert bundles_asked == [5, 0], "what was asked for is not kept for ever"


def test_a_cluster_that_does_not_grow_is_refused_without_waiting(monkeypatch):
    monkeypatch.setattr("unite.cluster.resources.nodes", lambda: [{"CPU": 1.0, "GPU": 0.0}])
    asked = WorkerArguments(num_workers=4)
    with pytest.raises(CapacityError, match="--num-workers 4"):
        wait_for(lambda have: pool_workers(asked, have), asked)
