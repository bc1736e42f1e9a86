"""Training under Ray Train: worker counts agree over a few steps, a killed one costs but time."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil
import pytest
import torch
from ray.exceptions import ActorDiedError
from ray.train import ControllerError

from unite.checkpoints.store import latest, read_checkpoint
from unite.cluster.connect import CapacityError
from unite.cluster.losses import TrainingError
from unite.cluster.resources import WorkerGroup
from unite.cluster.train import _raise_own, fit, set_threads, train_rank
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.data.ingest.digits import prepare_digits
from unite.data.loader import local_reader
from unite.storage import Store
from unite.tracking import Tracker
from unite.training.parallelize import World
from unite.training.progress import read_progress
from unite.training.runs import begin, open_run
from unite.training.setup import Job, build_trainer


@pytest.fixture
def smoke(tmp_path):
    """2,048 images in 64 steps, a checkpoint every 512, on digits in a private storage."""
    prepare_digits(Store.open(tmp_path / "data" / "digits"))
    changes = {
        "storage": str(tmp_path),
        "training.epochs": 2048 / 1500,
        "checkpoint.every_images": 512,
        "checkpoint.keep_last": 10,
        "evaluation.every_images": 1_000_000,
    }
    return replace(recipe("smoke"), changes)


def job_of(config):
    run = open_run(config)
    begin(run)
    return Job(config=run.config, folder=run.folder, resume_from=run.resume_from)


def no_tracker():
    """A factory that is pickled by value: workers cannot import this module."""
    return lambda is_main, images: Tracker()


def group(workers):
    return WorkerGroup(num_workers=workers, cpus_per_worker=1.0, use_gpu=False)


def kill_a_worker_at(folder, images, killed):
    """kill -9 one Ray Train worker of this session once the run has seen `images`."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        time.sleep(0.05)
        progress = read_progress(folder)
        if progress is None or progress.get("images", 0) < images:
            continue
        for process in psutil.Process().children(recursive=True):
            if "RayTrainWorker" in " ".join(process.cmdline()):
                os.kill(process.pid, signal.SIGKILL)
                killed.append(progress["images"])
                return


def test_training_goes_on_from_the_checkpoint_before_a_damaged_one(smoke, caplog):
    """To the bit as if the damaged one had never been written."""
    set_threads(1, 1)
    config = replace(smoke, {"training.epochs": 128 / 1500, "checkpoint.every_images": 64})

    def train():
        job = job_of(config)
        train_rank(job, World(), no_tracker(), local_reader)
        return job.folder

    folder = train()
    undisturbed = read_checkpoint(latest(folder))
    marker = f"{latest(folder).uri.removeprefix(folder.uri + '/')}/COMMITTED"
    folder.write(marker, b"")
    train()
    assert "is damaged" in caplog.text
    again = read_checkpoint(latest(folder))
    assert again.images == undisturbed.images == 128
    for part, tensors in undisturbed.parts.items():
        assert all(torch.equal(again.parts[part][name], value) for name, value in tensors.items())


def test_a_worker_that_dies_while_it_is_started_ends_no_run(smoke):
    error = ControllerError(ActorDiedError())
    _raise_own(error, job_of(smoke), group(1))
    error.controller_failure = RuntimeError("its own")
    with pytest.raises(TrainingError, match="gave up: its own"):
        _raise_own(error, job_of(smoke), group(1))


@pytest.mark.ray
@pytest.mark.fault
def test_a_worker_killed_in_the_middle_changes_no_bit(ray_cluster, smoke):
    straight = job_of(replace(smoke, {"name": "straight"}))
    threads = torch.get_num_threads()
    set_threads(
        smoke.cluster.threads_per_worker, 1
    )  # bits depend on the threads of a sum: as many as the worker will use
    trainer = build_trainer(straight, World(), Tracker(), local_reader)
    trainer.run()
    trainer.stream.close()
    torch.set_num_threads(threads)

    broken = job_of(replace(smoke, {"name": "broken"}))
    killed: list[int] = []
    killer = threading.Thread(
        target=kill_a_worker_at, args=(broken.folder, 700, killed), daemon=True
    )
    killer.start()
    summary = fit(broken, group(1), no_tracker())
    killer.join()
    assert killed and killed[0] < 2048
    assert summary["images"] == 2048

    left, right = (read_checkpoint(latest(job.folder)) for job in (straight, broken))
    for part in left.parts:
        for name, value in left.parts[part].items():
            assert torch.equal(value, right.parts[part][name]), (part, name)
    assert left.state["history"] == right.state["history"]


@pytest.mark.ray
def test_two_workers_compute_what_one_computes_over_a_few_steps(ray_cluster, smoke):
    smoke = replace(smoke, {"training.epochs": 256 / 1500, "training.accumulation": 2})
    one = job_of(replace(smoke, {"name": "one"}))
    trainer = build_trainer(one, World(), Tracker(), local_reader)
    trainer.run()
    trainer.stream.close()
    two = job_of(replace(smoke, {"name": "two", "cluster.num_workers": 2}))
    fit(two, group(2), no_tracker())

    left, right = (read_checkpoint(latest(job.folder)) for job in (one, two))
    for name, value in left.parts["ema"].items():
        torch.testing.assert_close(value, right.parts["ema"][name], rtol=1e-3, atol=1e-4)
    curves = [
        [row["loss/total"] for row in checkpoint.state["history"] if "loss/total" in row]
        for checkpoint in (left, right)
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)


@pytest.mark.ray
def test_an_error_of_the_run_itself_is_raised_at_once(ray_cluster, smoke):
    job = job_of(smoke)
    shard = Store.open(smoke.storage) / "data" / "digits"
    name = next(name for name in shard.list() if name.startswith("train"))
    shard.write(name, shard.read(name)[:-100])
    with pytest.raises(TrainingError, match=name):
        fit(job, group(1), no_tracker())


@pytest.mark.ray
@pytest.mark.fault
def test_workers_that_others_leave_no_room_for_end_with_what_is_free(
    ray_cluster, smoke, monkeypatch
):
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "3")
    monkeypatch.setattr("unite.cluster.train.START_SECONDS", 6.0)

    @ray_cluster.remote(num_cpus=3.5)
    class Hog:
        def ready(self) -> None:
            """Answers once it has its CPUs."""

    hog = Hog.remote()
    ray_cluster.get(hog.ready.remote())
    try:
        with pytest.raises(CapacityError, match=r"did not start within 6 s.* 0\.5 CPUs .* free"):
            fit(job_of(smoke), group(1), no_tracker())
    finally:
        ray_cluster.kill(hog)
