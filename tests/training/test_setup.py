"""What a worker checks and measures before the first step."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch

from unite.checkpoints.store import CheckpointError
from unite.config.serialise import replace
from unite.storage import StorageError
from unite.training import flops, setup
from unite.training.requests import Request, no_notice, nothing
from unite.training.runs import begin, open_run, request_stop
from unite.training.setup import TOKEN_FILE, Job, require_token


def test_a_worker_that_does_not_see_the_drivers_folder_refuses(smoke):
    run = open_run(smoke)
    begin(run)
    job = Job.of(run)
    require_token(job)
    run.folder.write(TOKEN_FILE, b"left by an earlier driver of this node")
    with pytest.raises(StorageError, match=r"storage = .*not the folder that the driver sees.*s3:"):
        require_token(job)
    run.folder.delete(TOKEN_FILE)
    with pytest.raises(StorageError, match="--storage must be a place that all of them reach"):
        require_token(job)
    require_token(Job(config=run.config, folder=run.folder))


def test_lpips_is_built_as_the_run_says(smoke, monkeypatch):
    def build(*args, **options):
        made.append((args, options))
        return torch.nn.Identity()

    made = []
    monkeypatch.setattr(setup, "require_perceptual", lambda weights: f"{weights}/vgg")
    monkeypatch.setattr(setup, "Perceptual", build)
    changes = {"weights": "here", "loss.perceptual.input_range": "0..1", "training.compile": True}
    asked = {"loss.perceptual.weight": 1.0, "training.precision": "bfloat16", **changes}
    assert setup.load_perceptual(smoke, torch.device("cpu")) is None
    setup.load_perceptual(replace(smoke, asked), torch.device("cpu"))
    assert made == [(("here/vgg", "0..1"), {"dtype": torch.bfloat16, "compile": True})]


def test_mfu_is_a_share_of_the_stated_peak_or_of_the_measured_rate(
    smoke, make_trainer, monkeypatch
):
    measured = []

    def measure(device, dtype):
        measured.append((device, dtype))
        return 5e9

    monkeypatch.setattr(flops, "measure_matmul_rate", measure)
    stated = make_trainer(replace(smoke, {"name": "stated", "cluster.device_tflops": 989.0}))
    assert stated.device_rate.flops == 989e12 and not measured
    assert make_trainer(smoke).device_rate.flops == 5e9
    assert measured == [(torch.device("cpu"), torch.float32)]


def statistics_of(model: dict, stored: dict) -> None:
    """Compares what a model knows of its data with what a checkpoint keeps."""
    known = SimpleNamespace(statistics=SimpleNamespace(tensors=model))
    parts = {"model": {f"{setup.STATISTICS}{name}": value for name, value in stored.items()}}
    setup._check_statistics(known, SimpleNamespace(parts=parts))


def test_a_checkpoint_of_other_data_is_refused_by_its_statistics():
    sizes = torch.tensor([0.0, 0.25, 0.75])
    statistics_of({}, {})
    statistics_of({"sizes": sizes}, {"sizes": sizes.clone()})
    for stored in ({}, {"sizes": sizes.flip(0)}):
        with pytest.raises(CheckpointError, match=r"other statistics .* \(sizes\)"):
            statistics_of({"sizes": sizes}, stored)


def test_rank_0_alone_is_asked_and_by_the_runs_own_folder(smoke, monkeypatch):
    monkeypatch.setattr("unite.training.requests.STOP_POLL_SECONDS", 0.001)
    run = open_run(smoke)
    begin(run)
    job = Job.of(run)
    writer = SimpleNamespace(lag_seconds=0.0, saved_at=time.monotonic())
    asked = setup._requests(job, writer, no_notice, nothing)
    assert asked() == Request.NONE
    request_stop(run.folder, job.owner)
    deadline = time.monotonic() + 60
    while asked() != Request.STOP and time.monotonic() < deadline:
        time.sleep(0.01)
    assert asked() == Request.STOP


def test_a_run_of_one_worker_can_be_stopped(smoke, make_trainer, monkeypatch):
    monkeypatch.setattr("unite.training.requests.STOP_POLL_SECONDS", 0.001)
    trainer = make_trainer(replace(smoke, {"data.train": f"{smoke.storage}/data/digits"}))
    request_stop(trainer.writer.run)
    deadline = time.monotonic() + 60
    while trainer.requests() != Request.STOP and time.monotonic() < deadline:
        time.sleep(0.01)
    assert trainer.requests() == Request.STOP
