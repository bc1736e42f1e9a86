"""`jobs/generate.py` from the command line to the files."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from unite.checkpoints.export import write_export
from unite.config.recipes import recipe
from unite.config.serialise import to_dict
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.sampling.generate_job import (
    Drawing,
    GenerateArguments,
    choose_device,
    choose_settings,
    generate,
    parse_labels,
)
from unite.storage import Store


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    """An export of a random digits model whose output is not the zero of a fresh one."""
    torch.manual_seed(0)
    config = recipe("smoke")
    model = UNITE(config.model, build_domain(config.domain), config.flow)
    for parameter in model.parameters():
        parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
    folder = tmp_path_factory.mktemp("runs") / "export"
    write_export(model, to_dict(config), Store.open(folder))
    return str(folder)


def test_command_writes_pngs_grid_and_npz(run_folder, tmp_path, root):
    out = tmp_path / "out"
    command = [sys.executable, str(root / "jobs/generate.py"), "--run", run_folder]
    command += ["--labels", "3,5-6", "--num", "7", "--batch-size", "4", "--out", str(out)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "euler, 4 steps, guidance 1.5 for t in (0.1, 1)" in result.stdout
    labels = [3, 5, 6, 3, 5, 6, 3]
    with np.load(out / "samples.npz") as samples:
        assert samples["labels"].tolist() == labels
        images = samples["images"]
    assert images.shape == (7, 8, 8, 1) and images.dtype == np.uint8
    for index, label in enumerate(labels):
        picture = np.asarray(Image.open(out / f"{index:06d}-class{label}.png"))
        np.testing.assert_array_equal(picture, images[index, ..., 0])
    assert Image.open(out / "grid.png").size[0] > Image.open(out / "grid.png").size[1] / 2


def test_without_a_terminal_a_line_every_ten_seconds_tells_how_far_it_is(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr("unite.sampling.generate_job.time.monotonic", lambda: now[0])
    with Drawing(1000) as drawing:
        for second in range(0, 30, 4):
            now[0] = float(second)
            drawing.show(second * 20)
    assert capsys.readouterr().err.splitlines() == [
        "240 of 1,000 images drawn  20.0/s  0:38 left",
        "480 of 1,000 images drawn  20.0/s  0:26 left",
    ]


def test_command_reports_mistakes_without_a_traceback(run_folder, tmp_path, root):
    command = [sys.executable, str(root / "jobs/generate.py"), "--run", run_folder]
    command += ["--labels", "0-12", "--out", str(tmp_path)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "the model has 10 classes" in result.stderr


def arguments(run_folder, out, **changes):
    return GenerateArguments(run=run_folder, out=str(out), num=6, **changes)


def images_of(folder):
    with np.load(f"{folder}/samples.npz") as samples:
        return samples["images"].astype(int)


def test_samples_depend_on_the_seed_but_not_on_the_batch_size(run_folder, tmp_path):
    first = generate(arguments(run_folder, tmp_path / "a"), str(tmp_path))
    again = generate(arguments(run_folder, tmp_path / "b", batch_size=4), str(tmp_path))
    other = generate(arguments(run_folder, tmp_path / "c", seed=1), str(tmp_path))
    # Truncation to whole pixel values can turn the last bit of rounding into one.
    assert np.abs(images_of(first) - images_of(again)).max() <= 1
    assert np.abs(images_of(first) - images_of(other)).max() > 1


def test_flags_override_the_runs_settings(run_folder):
    own = recipe("smoke").sampling
    assert choose_settings(arguments(run_folder, ""), run_folder) == own
    chosen = choose_settings(
        arguments(run_folder, "", solver="heun", cfg_interval=(0.2, 0.8)), run_folder
    )
    assert (chosen.solver, chosen.cfg_interval) == ("heun", (0.2, 0.8))
    assert (chosen.num_steps, chosen.cfg_scale) == (own.num_steps, own.cfg_scale)


def test_output_on_s3(run_folder, s3, tmp_path):
    out = generate(arguments(run_folder, f"{s3}/out"), str(tmp_path))
    assert {"grid.png", "samples.npz", "000005-class5.png"} <= set(out.list())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", list(range(10))),
        ("0-9", list(range(10))),
        ("3,5,7", [3, 5, 7]),
        ("0-2, 8", [0, 1, 2, 8]),
        ("4", [4]),
        ("9-9,0", [9, 0]),
    ],
)
def test_labels(text, expected):
    assert parse_labels(text, 10) == expected


@pytest.mark.parametrize(
    "text", ["10", "0-10", "5-3", "a", "1-", "-1", "1,,2", "0-1-2", "1.5", "\u00b2"]
)
def test_bad_labels_are_named(text):
    with pytest.raises(ValueError, match="--labels"):
        parse_labels(text, 10)


def test_bad_devices_and_counts_are_named(run_folder, tmp_path):
    with pytest.raises(ValueError, match="'warp' is no device"):
        choose_device("warp")
    with pytest.raises(ValueError, match="CUDA devices"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match="--batch-size must be at least 1"):
        generate(arguments(run_folder, tmp_path, batch_size=0), str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"solver": "dopri5", "num_steps": 7}, "--num-steps 7 has no effect"),
        ({"cfg_scale": 1.0, "cfg_interval": (0.2, 0.9)}, "--cfg-interval 0.2 0.9 has no effect"),
        ({"cfg_scale": float("nan")}, "cfg_scale = nan"),
        ({"cfg_scale": 0.0}, "cfg_scale = 0.0 must be at least 1"),
        ({"cfg_scale": -2.0}, "cfg_scale = -2.0 must be at least 1"),
    ],
)
def test_a_flag_that_does_nothing_or_cannot_be_writes_no_folder(
    run_folder, tmp_path, changes, message
):
    with pytest.raises(ValueError, match=message):
        generate(arguments(run_folder, tmp_path / "out", **changes), str(tmp_path))
    assert not (tmp_path / "out").exists()
