"""Leased work: who gets what, what an error does, and that workers are not needed for tiny runs."""

import math
import os
import pathlib
import signal
import time
from collections import Counter, deque
from functools import partial

import pytest
from ray.exceptions import RayActorError, RayError

from unite.cluster.connect import CapacityError
from unite.cluster.pool import Lease, Pool, WorkError, WorkersLostError
from unite.evaluation.arguments import WorkerArguments


def test_no_work_starts_nothing():
    Pool(lambda: pytest.fail("made a worker"), WorkerArguments()).run([], lambda item: None)


def test_a_ray_that_does_not_start_is_told(monkeypatch):
    def fail(**settings):
        raise Exception("The current node timed out during startup.")

    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", fail)
    with pytest.raises(CapacityError, match="(?s)timed out during startup.*--num-workers 0"):
        Pool(lambda: print, WorkerArguments()).run([1], lambda item: None)


def settle(pool, losses, monkeypatch, error: RayError) -> None:
    """Let the pool see the end of an actor that held the only item."""

    def fail(reference):
        raise error

    monkeypatch.setattr("ray.get", fail)
    pool.leases["reference"] = Lease(actor=None, number=0, since=0.0)
    pool._settle("reference", ["piece"], deque(), losses)


def test_a_node_that_is_taken_with_notice_is_no_fault_of_the_item(monkeypatch):
    """A fine-tuning of hours on spot nodes may meet many."""
    pool = Pool(lambda: print, WorkerArguments())
    losses, started = Counter[int](), []
    monkeypatch.setattr(pool, "_start", lambda: started.append(1))
    for _ in range(5):
        settle(pool, losses, monkeypatch, RayActorError(preempted=True))
    assert len(started) == 5 and not losses[0]
    settle(pool, losses, monkeypatch, RayActorError())
    settle(pool, losses, monkeypatch, RayActorError())
    with pytest.raises(WorkersLostError, match="piece has cost 3 workers"):
        settle(pool, losses, monkeypatch, RayActorError())


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
        pool = Pool(partial(make, str(folder)), WorkerArguments(num_workers=workers))
        try:
            pool.run([20], done.append)
            assert pool.size == 1  # there was work for one
            pool.run(list(range(20)), done.append)
            assert pool.size == workers
        finally:
            pool.close()
        assert sorted(done) == list(range(21))
        assert {p.name: p.read_text() for p in folder.iterdir()} == {
            str(item): "x" for item in range(21)
        }


@pytest.mark.ray
@pytest.mark.slow
def test_an_error_of_the_work_ends_it_at_once_with_its_own_message(ray_cluster):
    def make():
        def work(item):
            if item == 3:
                raise ValueError("image 17 is not finite")

        return work

    pool = Pool(make, WorkerArguments(num_workers=1))
    done = []
    try:
        with pytest.raises(WorkError, match="^3: image 17 is not finite$"):
            pool.run(list(range(10)), done.append)
    finally:
        pool.close()
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

    pool = Pool(make, WorkerArguments(num_workers=1))
    done = []
    try:
        with pytest.raises(WorkersLostError, match="^1 has cost 3 workers"):
            pool.run([0, 1, 2], done.append)
    finally:
        pool.close()
    assert done == [0]


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.slow
def test_an_item_whose_worker_hangs_is_given_to_another(ray_cluster, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("unite.cluster.pool.limit", lambda seconds: 2.0 if seconds else math.inf)

    def make(folder=str(tmp_path)):
        def work(item):
            first = pathlib.Path(folder) / "hung"
            if item == 1 and not first.exists():
                first.touch()
                os.kill(os.getpid(), signal.SIGSTOP)

        return work

    pool = Pool(make, WorkerArguments(num_workers=1))
    done = []
    try:
        pool.run([0, 1, 2], done.append)
    finally:
        pool.close()
    assert sorted(done) == [0, 1, 2] and (tmp_path / "hung").exists()
    assert "1 takes more than 0:02" in caplog.text


@pytest.mark.ray
@pytest.mark.slow
def test_resources_that_others_hold_are_no_reason_to_hang(ray_cluster, monkeypatch):
    monkeypatch.setattr("unite.cluster.pool.START_SECONDS", 1.0)

    @ray_cluster.remote(num_cpus=4)
    class Hog:
        def here(self):
            return True

    hog = Hog.remote()
    ray_cluster.get(hog.here.remote())
    pool = Pool(lambda: print, WorkerArguments(num_workers=2, wait_s=1.0))
    try:
        with pytest.raises(CapacityError, match="no worker could start within 2 s"):
            pool.run([1, 2], lambda item: None)
    finally:
        pool.close()
        ray_cluster.kill(hog)


@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.slow
def test_slow_work_is_done_in_the_end(ray_cluster, monkeypatch, tmp_path):
    """Items of another kind have their own limit, and one that was ended has twice the time."""
    monkeypatch.setattr("unite.cluster.pool.limit", lambda seconds: 2.0 if seconds else math.inf)

    def make(folder=str(tmp_path)):
        def work(item):
            with open(f"{folder}/{item}", "a") as file:
                file.write("x")
            time.sleep(3.0 if item in ("large 0", "small 1") else 0.0)

        return work

    pool: Pool[str] = Pool(
        make, WorkerArguments(num_workers=1), kind=lambda item: item.partition(" ")[0]
    )
    done: list[str] = []
    try:
        pool.run(["small 0", "large 0", "small 1"], done.append)
    finally:
        pool.close()
    assert sorted(done) == ["large 0", "small 0", "small 1"]
    assert [(tmp_path / item).read_text() for item in sorted(done)] == ["x", "x", "xx"]
