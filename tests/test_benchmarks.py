"""Every benchmark runs, at a size that measures nothing, and its arms compute the same."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch


@pytest.fixture
def benchmark(root, monkeypatch):
    """Imports a script of benchmarks/ as a user's python finds it; arguments become sys.argv."""
    monkeypatch.syspath_prepend(root / "benchmarks")

    def load(name: str, *arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *arguments])
        return importlib.import_module(name)

    return load


@pytest.fixture(autouse=True)
def _threads():
    """Some scripts choose the number of threads; the next test has its own again."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def photos(folder: Path, *, num: int) -> Path:
    """A tree of two classes of random JPEGs."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for index in range(num):
        file = folder / f"class{index % 2}" / f"{index}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (280, 300, 3), dtype=np.uint8)).save(file)
    return folder


def test_both_arms_of_the_training_step_have_the_same_losses(benchmark):
    script = benchmark("train_step")
    options = script.Options(noisings=(2,), batch=8, warmup=1, rounds=2, block=1)
    setting = script.build_setting(options, 2, False, torch.device("cpu"))
    result = script.measure(setting, options)
    assert result.difference() < 1e-5
    assert len(result.losses["ours"]) == 3
    assert result.row(1e9).startswith("| 2 | eager | 8 |")


def test_both_forms_of_the_adaptive_weight_have_the_same_gradient(benchmark, capsys):
    script = benchmark("gan_step")
    options = script.Options(recipe="smoke", batch=8, blocks=2, steps=1)
    script.main(options)
    assert "combined weight, time over VQGAN's" in capsys.readouterr().out
    config = script.finetune_recipe("small", script.recipe("smoke"))
    fields = {"adversarial.adversarial_start": 0.0, "discriminator.features": "tokens"}
    config = script.replace(config, {"loss.perceptual.weight": 0.0, **fields})
    part, gradients = script.micro_batch(config, options), []
    for both in (script.both_players, script.vqgan_players):
        made = script.stage(config, options)
        both(made, part)
        gradients.append(torch.cat([p.grad.flatten() for p in made.decoder.parameters]))
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * scale)


def test_both_arms_of_the_frechet_distance_have_the_same_value(benchmark, capsys):
    script = benchmark("frechet")
    script.main(script.Options(dim=16, samples=200, rounds=2))
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if "ours |" in line]
    other = [script.gaussian(script.Options(dim=16, samples=200), seed) for seed in (1, 2)]
    assert float(rows[0][3]) == pytest.approx(script.by_sqrtm(*other), rel=1e-6)


def test_all_samplers_draw_the_same_images(benchmark, capsys):
    script = benchmark("sampling")
    script.main(script.Options(num=4, batch=2, cfg_scales=(1.0,), rounds=1))
    out = capsys.readouterr().out
    assert "Headline, Heun without guidance" in out
    errors = [float(line.split("|")[6]) for line in out.splitlines() if line.startswith("| 1 |")]
    assert max(errors) < 0.05


def test_a_round_of_every_kind_of_save_leaves_a_checkpoint(benchmark, tmp_path):
    script = benchmark("checkpoint")
    seconds = script.measure(script.Arm(32, torch.device("cpu")), str(tmp_path), rounds=2)
    assert {name: len(rows) for name, rows in seconds.items()} == {
        "none": 2,
        "synchronous": 2,
        "asynchronous": 2,
    }
    assert [len(list(tmp_path.glob(f"{name}/**/COMMITTED"))) for name in ("sync", "async")] == [
        1,
        1,
    ]


def test_lossless_crops_have_no_distance_from_themselves(benchmark, tmp_path, capsys):
    script = benchmark("encoding")
    script.main(script.Options(data=str(photos(tmp_path / "tree", num=4))))
    table = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0]: cells[3:5] for cells in table if len(cells) == 5}
    assert rows["webp lossless"] == ["inf", "0"]
    assert float(rows["jpeg 75"][1]) > float(rows["jpeg 95"][1]) > 0


@pytest.mark.ray
def test_the_trainer_is_measured_under_ray_and_without(benchmark, ray_cluster, capsys):
    script = benchmark("orchestration", "--epochs", "0.2", "--rounds", "1")
    # Ray's workers do not look in benchmarks/: what they need of the script travels with the call.
    ray_cluster.cloudpickle.register_pickle_by_value(script)
    try:
        script.main()
    finally:
        ray_cluster.cloudpickle.unregister_pickle_by_value(script)
    out = capsys.readouterr().out
    assert "plain" in out
    assert "Ray Train / plain process" in out


@pytest.mark.ray
def test_both_pools_find_the_same_with_killed_workers_too(benchmark, ray_cluster, capsys):
    script = benchmark("fanout")
    ray_cluster.cloudpickle.register_pickle_by_value(script)
    try:
        script.main(script.Options(samples=128, steps=2, rounds=1))
    finally:
        ray_cluster.cloudpickle.unregister_pickle_by_value(script)
    assert "results bit-equal" in capsys.readouterr().out


@pytest.mark.ray
def test_the_stream_gives_the_pixels_of_torchvision(benchmark, ray_cluster, tmp_path, capsys):
    tree = photos(tmp_path / "tree", num=4)
    arguments = ["--images", "128", "--rounds", "1", "--seconds", "0.1"]
    benchmark("stream", "--data", str(tree), *arguments).main()
    out = capsys.readouterr().out
    assert "largest difference of a pixel (original bytes): 0" in out
    assert "prepared: ratio" in out


def test_the_scan_of_a_storage_counts_every_pair_once(benchmark, capsys):
    script = benchmark("survey")
    script.main(script.Options(checkpoints=6, runs=2))
    assert "| 6 | 2 |" in capsys.readouterr().out


def test_steps_on_molecules_have_one_gradient_however_they_are_padded(benchmark, capsys):
    script = benchmark("molecule_step")
    script.main(script.Options(batch=8, groups=2, steps=1))
    assert "gradients agree" in capsys.readouterr().out


def test_molecules_decode_alike_from_bytes_and_from_lists(benchmark, capsys):
    script = benchmark("molecule_stream")
    script.main(script.Options(rows=40, rounds=1))
    assert "arrays equal" in capsys.readouterr().out


def test_chemistry_gives_the_same_whatever_the_processes(benchmark, capsys):
    for package in ("rdkit", "pymatgen", "openbabel"):
        pytest.importorskip(package)
    script = benchmark("molecule_metrics")
    script.main(script.Options(molecules=3, matched=2, rounds=1))
    assert "verdicts equal" in capsys.readouterr().out
