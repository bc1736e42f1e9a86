"""What a worker checks and measures before the first step."""

from __future__ import annotations

import pytest
import torch

from unite.config.serialise import replace
from unite.storage import StorageError
from unite.training import flops, setup
from unite.training.runs import begin, open_run
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
