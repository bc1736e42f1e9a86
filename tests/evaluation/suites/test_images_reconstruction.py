"""The reconstruction suite of images on the tiny run, against plain numpy and the training."""

import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tiny_run import value
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.evaluation.chunks import partition
from unite.evaluation.instruments import Instruments
from unite.evaluation.suites import images_reconstruction as module
from unite.training.evaluation import evaluate_reconstruction, reconstruct
from unite.training.parallelize import World


def test_reconstruction_agrees_with_the_evaluation_during_training(run_suites, tiny, data):
    (outcome,) = run_suites("reconstruction")
    shards = ShardSet.open(data, "eval", IMAGES)
    batches = sequential_batches(shards, tiny.domain, batch_size=100)
    trained = evaluate_reconstruction(tiny, batches, World(), 0)
    assert value(outcome, "psnr") == pytest.approx(trained["eval/psnr"], rel=1e-5)
    assert value(outcome, "l1") == pytest.approx(trained["eval/l1"], rel=1e-5)
    assert value(outcome, "rfd-pixels") > 0
    assert outcome.files["reconstructions.png"].startswith(b"\x89PNG")
    assert "under 16 pixels" in outcome.remarks[0]


def test_workers_find_the_weights_from_any_current_folder(request_of, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (suite,) = request_of(suite=("reconstruction",), weights="weights").suites
    assert suite.weights == str(tmp_path / "weights")


def test_the_8_bit_means_are_of_the_pictures(run_suites, tiny, data):
    """Against plain numpy on truncated pictures of the same reconstructions."""
    (outcome,) = run_suites("reconstruction")
    decibels, errors = [], []
    for batch in sequential_batches(
        ShardSet.open(data, "eval", IMAGES), tiny.domain, batch_size=100
    ):
        image_BHWC = torch.from_numpy(batch.fields["image"])
        sample, _ = tiny.domain.to_sample({"image": image_BHWC, **labels_of(batch)})
        recon = reconstruct(tiny, sample, torch.as_tensor(batch.rows_B), 0)
        pixels = (recon.clamp(0, 1) * 255).permute(0, 2, 3, 1).numpy().astype(np.uint8)
        error = pixels.astype(float) - image_BHWC.numpy().astype(float)
        decibels += list(20 * np.log10(255 / np.sqrt((error**2).mean((1, 2, 3)))))
        errors += list(np.abs(error).mean((1, 2, 3)) / 255)
    assert value(outcome, "psnr_8bit") == pytest.approx(np.mean(decibels), rel=1e-4)
    assert value(outcome, "l1_8bit") == pytest.approx(np.mean(errors), rel=1e-4)
    card = next(row.card for row in outcome.rows if row.card.metric == "psnr_8bit")
    assert card.uint8_rule and card.details["image_range"] == "0..1, of 8 bits"


def labels_of(batch):
    return {name: torch.from_numpy(v) for name, v in batch.fields.items() if name != "image"}


def test_the_precision_stands_on_the_card(run_suites):
    (exact,) = run_suites("reconstruction")
    (rounded,) = run_suites("reconstruction", precision="bfloat16")
    assert {row.card.precision for row in rounded.rows} == {"bfloat16"}
    assert value(rounded, "psnr") == pytest.approx(value(exact, "psnr"), rel=0.05)
    assert value(rounded, "psnr") != value(exact, "psnr")


def test_a_gpu_measures_in_bfloat16_unless_told_otherwise(request_of):
    """The precision is a field of the suite, and so of its digest and its card."""
    found = [
        request_of(suite=("reconstruction",), **more).suites[0]
        for more in ({}, {"use_gpu": True}, {"use_gpu": True, "precision": "float32"})
    ]
    assert [suite.precision for suite in found] == ["float32", "bfloat16", "float32"]
    assert found[1].digest != found[0].digest == found[2].digest


def test_worst_cases_and_lpips_of_reconstructions(request_of, monkeypatch):
    (suite,) = request_of(suite=("reconstruction",)).suites
    suite = replace(suite, lpips=True)
    instruments = Instruments()
    instruments.cached("lpips", lambda: lambda a, b: (a - b).abs().flatten(1).amax(dim=1))
    chunks = [suite.measure(instruments, chunk) for chunk in suite.chunks()]
    rows = instruments.rows(suite.data, suite.subject.config.domain, partition("all", 297, 1)[0])
    psnr, largest = {}, []
    for batch in rows:
        recon_BCHW = suite._reconstruct(instruments, batch)
        wrong = (recon_BCHW.clamp(0, 1) - batch.sample).double()
        largest += wrong.abs().flatten(1).amax(dim=1).tolist()
        errors = wrong.square().flatten(1).mean(dim=1)
        psnr |= dict(zip(batch.rows_B.tolist(), (-10 * errors.log10()).tolist(), strict=True))
    worst = [row for row in sorted(psnr, key=psnr.__getitem__)[:8] if row >= 8]
    shown = set(np.concatenate([chunk["rows"] for chunk in chunks]).tolist())
    assert {*range(8), *worst} <= shown
    outcome = suite.combine(chunks)
    assert value(outcome, "lpips") == pytest.approx(np.mean(largest), rel=1e-5)
    with Image.open(io.BytesIO(outcome.files["reconstructions.png"])) as picture:
        width, height = picture.size
    assert round(width / height * 2) == 8 + len(worst)


def test_lpips_is_computed_with_the_weights_of_the_request(request_of, monkeypatch):
    (suite,) = request_of(suite=("reconstruction",)).suites
    assert suite._perceptual(Instruments()) is None
    monkeypatch.setattr(module, "require_perceptual", lambda weights: f"{weights}/vgg.pth")
    monkeypatch.setattr(
        "unite.training.losses.Perceptual",
        lambda file: SimpleNamespace(to=lambda device: (file, device)),
    )
    instruments = Instruments()
    made = replace(suite, lpips=True, weights="there")._perceptual(instruments)
    assert made == ("there/vgg.pth", instruments.device)


def test_lpips_is_measured_where_its_weights_are_and_the_image_is_large_enough(monkeypatch):
    monkeypatch.setattr(module, "require_perceptual", lambda weights: "vgg.pth")
    assert module.lpips_available(module.SMALLEST_SIDE, "") == ""
    assert "under 16 pixels, these have 15" in module.lpips_available(15, "")


def test_the_picture_has_the_first_rows_and_the_worst_of_the_others():
    worst = [(0.5, 3), (0.4, module.SHOWN), (0.3, module.SHOWN + 7), (0.2, module.SHOWN - 1)]
    rows = module._wanted(SimpleNamespace(worst_cases=worst))
    assert rows == [*range(module.SHOWN), module.SHOWN, module.SHOWN + 7]
