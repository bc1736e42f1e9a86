"""Leased work: who gets what, what an error does, and that workers are not needed for tiny runs."""

import os
import signal
from functools import partial

import pytest

from unite.cluster.connect import Allotment, CapacityError
from unite.cluster.pool import Fleet, Here, Wish, WorkError, WorkersLostError, allot

HAVE = {"CPU": 8.0, "GPU": 2.0, "nodes": 1.0}


@pytest.mark.parametrize(
    ("wish", "workers", "use_gpu"),
    [
        (Wish(), 8, False),
        (Wish(num_workers=5), 5, False),
        (Wish(use_gpu=True), 2, True),
        (Wish(use_gpu=True, num_workers=1), 1, True),
    ],
)
def test_workers_follow_from_the_cluster(wish, workers, use_gpu):
    expected = Allotment(num_workers=workers, cpus_per_worker=1.0, use_gpu=use_gpu)
    assert allot(wish, HAVE) == expected


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        (Wish(num_workers=9), "--num-workers 9 with one CPU each.* has 2 GPUs and 8 CPUs"),
        (Wish(num_workers=3, use_gpu=True), "--num-workers 3 with one GPU each"),
    ],
)
def test_more_than_the_cluster_has_is_refused(wish, message):
    with pytest.raises(CapacityError, match=message):
        allot(wish, HAVE)


def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(CapacityError, match="0 GPUs .* Drop --use-gpu"):
        allot(Wish(use_gpu=True), {"CPU": 8.0, "GPU": 0.0, "nodes": 1.0})


def test_this_process_does_the_work_in_order():
    done, made = [], []
    here = Here(lambda: made.append(1) or done.append)
    here.run([3, 1, 2], lambda item: None)
    here.run([4], lambda item: None)
    assert done == [3, 1, 2, 4]
    assert made == [1]


def test_no_work_starts_nothing():
    Fleet(lambda: pytest.fail("made a worker")).run([], lambda item: None)


def test_a_ray_that_does_not_start_is_told(monkeypatch):
    def fail(**settings):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(CapacityError, match="(?s)timed out during startup.*--num-workers 0"):
        Fleet(lambda: print).run([1], lambda item: None)


@pytest.mark.ray
@pytest.mark.slow
def test_every_item_is_done_once_by_any_number_of_workers(ray_cluster, tmp_path):
    def make(folder):
        def work(item):
            with open(f"{folder}/{item}", "a") as file:
                file.write("x")

        return work

    for workers in (1, 3):
        folder = tmp_path / str(workers)
        folder.mkdir()
        done = []
        fleet = Fleet(partial(make, str(folder)), Wish(num_workers=workers))
        try:
            fleet.run([20], done.append)
            assert num_actors(fleet) == 1  # there was work for one
            fleet.run(list(range(20)), done.append)
            assert num_actors(fleet) == workers
        finally:
            fleet.close()
        assert sorted(done) == list(range(21))
        assert {p.name: p.read_text() for p in folder.iterdir()} == {
            str(item): "x" for item in range(21)
        }


def num_actors(fleet):
    crew = fleet._crew
    return len(crew.idle) + len(crew.starting) + len(crew.leases)


@pytest.mark.ray
@pytest.mark.slow
def test_an_error_of_the_work_ends_it_at_once_with_its_own_message(ray_cluster):
    def make():
        def work(item):
            if item == 3:
                raise ValueError("image 17 is not finite")

        return work

    fleet = Fleet(make, Wish(num_workers=1))
    done = []
    try:
        with pytest.raises(WorkError, match="^3: image 17 is not finite$"):
            fleet.run(list(range(10)), done.append)
    finally:
        fleet.close()
    assert done == [0, 1, 2]


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.slow
def test_an_item_that_kills_every_worker_is_held_responsible(ray_cluster):
    def make():
        def work(item):
            if item == 1:
                os.kill(os.getpid(), signal.SIGKILL)

        return work

    fleet = Fleet(make, Wish(num_workers=1))
    done = []
    try:
        with pytest.raises(WorkersLostError, match="^1 has cost 3 workers"):
            fleet.run([0, 1, 2], done.append)
    finally:
        fleet.close()
    assert done == [0]


@pytest.mark.ray
@pytest.mark.slow
def test_resources_that_others_hold_are_no_reason_to_hang(ray_cluster, monkeypatch):
    monkeypatch.setattr("unite.cluster.pool.START_SECONDS", 2.0)

    @ray_cluster.remote(num_cpus=4)
    class Hog:
        def here(self):
            return True

    hog = Hog.remote()
    ray_cluster.get(hog.here.remote())
    fleet = Fleet(lambda: print, Wish(num_workers=2))
    try:
        with pytest.raises(CapacityError, match="no worker could start within 2 s"):
            fleet.run([1, 2], lambda item: None)
    finally:
        fleet.close()
        ray_cluster.kill(hog)
