"""The report of a finished run: cheap, whatever the model costs."""

from __future__ import annotations

import numpy as np
import pytest

from unite.config.serialise import replace
from unite.data.ingest.digits import load_digits
from unite.domains import build_domain
from unite.drivers.train import print_report
from unite.training import closing_report as module
from unite.training.closing_report import Report, build_report, read_as_intended
from unite.training.runs import open_run


def digit_samples(per_class: int) -> np.ndarray:
    """Real digits of classes 0, 1, ... 9, 0, 1, ..., uint8 (N, 8, 8, 1)."""
    images, labels = load_digits()
    places = [np.flatnonzero(labels == digit)[:per_class] for digit in range(10)]
    return images[np.stack(places, axis=1).ravel()][..., None]


def test_real_digits_are_read_as_intended_and_noise_is_not(smoke):
    run = open_run(smoke)
    domain = build_domain(smoke.domain)
    real = digit_samples(20)
    scores = read_as_intended(run, domain, real)
    assert scores["read_samples"] > 0.98
    assert scores["read_real"] == pytest.approx(0.987, abs=0.005), "as the README says"
    shifted = np.concatenate([real[1:], real[:1]])
    assert read_as_intended(run, domain, shifted)["read_samples"] < 0.02


def test_the_report_takes_the_last_evaluations_grid(smoke, make_trainer, monkeypatch):
    data = f"{smoke.storage}/data/digits"
    trainer = make_trainer(replace(smoke, {"data.train": data, "training.epochs": 64 / 1500}))
    trainer.run()
    run = open_run(trainer.config)

    def refuse(*_):
        raise AssertionError("sampling a large model on the driver takes hours")

    monkeypatch.setattr(module, "sample_images", refuse)
    report = build_report(run)
    assert report.images == 64
    assert report.read_samples is None
    assert report.quality == trainer.metrics["eval/psnr"]
    assert report.latent_std == trainer.metrics["latent/std"]
    assert report.grid == f"{run.folder}/samples.png"
    assert run.folder.is_file("samples.png")
    run.folder.delete("samples.png")
    assert "jobs/generate.py --run" in build_report(run).grid


def test_what_is_printed(smoke, capsys):
    run = open_run(smoke)
    figures = {"read_samples": 0.998, "read_real": 0.987}
    whole = Report(
        images=39040,
        quality=33.21,
        latent_std=0.361,
        grid="x/samples.png",
        curves="x/curves.png",
        **figures,
    )
    print_report(run, whole, 209.0)
    out = capsys.readouterr().out
    for line in (
        "trained         39,040 images, 3:29 in the last session",
        "reconstruction  33.2 dB PSNR on held-out images",
        "samples         99.8% read as the intended class",
        "reads 98.7% of real held-out ones",
        "latent/std      0.36",
        "sample grid     x/samples.png",
        f"python jobs/evaluate.py --run {run.folder.name} --storage {smoke.storage}",
    ):
        assert line in out
    print_report(
        run, Report(images=1, quality=None, latent_std=None, grid="none", curves="none"), 1.0
    )
    out = capsys.readouterr().out
    assert "reconstruction" not in out and "latent/std" not in out
