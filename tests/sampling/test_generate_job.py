"""`jobs/generate.py` from the command line to the files."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from unite.checkpoints.export import write_export
from unite.checkpoints.load import load
from unite.config.recipes import recipe
from unite.config.serialise import to_dict
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.sampling import generate_job
from unite.sampling.generate_job import (
    Drawing,
    GenerateArguments,
    choose_device,
    choose_settings,
    generate,
    parse_labels,
    parse_sizes,
    unseen_sizes,
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
    with Image.open(tmp_path / "out-grid.png") as grid:
        assert grid.size[0] > grid.size[1] / 2


def test_without_a_terminal_a_line_every_ten_seconds_tells_how_far_it_is(turned_clock, capsys):
    now = [0.0]
    turned_clock(generate_job, monotonic=lambda: now[0])
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
    return GenerateArguments(run=run_folder, out=str(out), **{"num": 6, **changes})


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


def test_samples_of_another_precision_are_other_samples(run_folder, tmp_path):
    """Close, never the same, and refused in a folder of the first."""
    exact = generate(arguments(run_folder, tmp_path / "a"), str(tmp_path))
    low = arguments(run_folder, tmp_path / "b", precision="bfloat16")
    low = generate(low, str(tmp_path))
    difference = np.abs(images_of(exact) - images_of(low))
    assert 0 < difference.mean() < 4
    with pytest.raises(ValueError, match="precision"):
        generate(arguments(run_folder, tmp_path / "a", precision="bfloat16"), str(tmp_path))


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
    pngs = {f"{index:06d}-class{index}.png" for index in range(6)}
    assert set(out.list()) == pngs | {"samples.npz", "samples.json", ".finished.json"}
    assert set(Store.open(s3).list()) == {"out", "out-grid.png"}
    with pytest.raises(ValueError, match="name a folder in the bucket"):
        generate(arguments(run_folder, s3), str(tmp_path))


def pngs_in(folder):
    return sorted(path.name for path in folder.glob("*.png"))


def test_tools_that_read_the_folder_find_the_samples_and_nothing_else(run_folder, tmp_path):
    from torch_fidelity.datasets import ImagesPathDataset
    from torch_fidelity.utils import glob_samples_paths

    out = tmp_path / "out"
    generate(arguments(run_folder, out), str(tmp_path))
    found = glob_samples_paths(str(out), True, "png,jpg,jpeg", verbose=False)
    assert [path.rpartition("/")[2] for path in found] == pngs_in(out) and len(found) == 6
    seen = torch.stack(list(ImagesPathDataset(found)))  # they all have one size
    with np.load(out / "samples.npz") as samples:  # ADM's evaluator reads arr_0
        assert set(samples) == {"arr_0", "images", "labels"}
        arr_0 = samples["arr_0"]
        assert arr_0.dtype == np.uint8
        np.testing.assert_array_equal(arr_0, samples["images"])
    np.testing.assert_array_equal(seen[:, :1].numpy(), arr_0.transpose(0, 3, 1, 2))


def test_samples_of_two_calls_are_never_mixed(run_folder, tmp_path):
    out = tmp_path / "out"
    generate(arguments(run_folder, out), str(tmp_path))
    kept = json.loads((out / "samples.json").read_text())
    assert set(kept) == {"weights", "labels", "num", "seed", "sampling", "noise"}, "as before"
    with pytest.raises(
        ValueError, match=r"000000-class0\.png.*and 3 more.*in labels, seed\. .*--re"
    ):
        generate(arguments(run_folder, out, labels="3", seed=5), str(tmp_path))
    assert len(pngs_in(out)) == 6
    generate(arguments(run_folder, out, labels="3", replace=True), str(tmp_path))
    assert pngs_in(out) == [f"{index:06d}-class3.png" for index in range(6)]
    with np.load(out / "samples.npz") as samples:
        assert samples["labels"].tolist() == [3] * 6


def test_samples_of_an_earlier_version_are_not_mixed_with(run_folder, tmp_path):
    """It kept no record and put the grid into the folder."""
    out = tmp_path / "out"
    generate(arguments(run_folder, out), str(tmp_path))
    (out / "samples.json").unlink()
    (tmp_path / "out-grid.png").rename(out / "grid.png")
    with pytest.raises(ValueError, match="holds the samples of another call"):
        generate(arguments(run_folder, out), str(tmp_path))
    generate(arguments(run_folder, out, replace=True), str(tmp_path))
    assert len(pngs_in(out)) == 6


def test_samples_of_other_noise_are_not_continued(run_folder, tmp_path):
    out = tmp_path / "out"
    generate(arguments(run_folder, out), str(tmp_path))
    record = json.loads((out / "samples.json").read_text())
    del record["noise"]  # as of the first version, which did not write it
    (out / "samples.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="of another call .* which differs in noise"):
        generate(arguments(run_folder, out), str(tmp_path))


def test_images_of_others_are_neither_mixed_with_nor_deleted(run_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "holiday.JPG").write_bytes(b"mine")
    (out / "notes.txt").write_bytes(b"mine")
    for replace in (False, True):
        with pytest.raises(ValueError, match=r"no samples of this program \(holiday\.JPG\)"):
            generate(arguments(run_folder, out, replace=replace), str(tmp_path))
    (out / "holiday.JPG").unlink()
    generate(arguments(run_folder, out), str(tmp_path))
    assert (out / "notes.txt").exists()


def test_an_interrupted_call_is_continued_by_the_same_command(run_folder, tmp_path, monkeypatch):
    from unite.sampling import writers

    whole = generate(arguments(run_folder, tmp_path / "whole"), str(tmp_path))
    saved, out = [], tmp_path / "out"
    save = writers.save_png

    def save_some(store, name, image):
        if len(saved) == 4:
            raise KeyboardInterrupt
        saved.append(name)
        save(store, name, image)

    monkeypatch.setattr(writers, "save_png", save_some)
    with pytest.raises(KeyboardInterrupt):
        generate(arguments(run_folder, out, batch_size=3), str(tmp_path))
    assert pngs_in(out) == saved
    monkeypatch.setattr(writers, "save_png", lambda *args: saved.append(args[1]) or save(*args))
    generate(arguments(run_folder, out, batch_size=3), str(tmp_path))
    assert saved[4:] == ["000004-class4.png", "000005-class5.png", ""], "the rest, and the grid"
    assert np.abs(images_of(out) - images_of(whole)).max() <= 1
    generate(arguments(run_folder, out), str(tmp_path))
    assert saved[7:] == [""], "nothing is left to draw"


def test_another_checkpoint_is_another_call(run_folder, tmp_path):
    out, other = tmp_path / "out", tmp_path / "other"
    generate(arguments(run_folder, out), str(tmp_path))
    model = load(run_folder)
    torch.nn.init.zeros_(model.decoder.class_token)
    write_export(model, to_dict(recipe("smoke")), Store.open(other))
    with pytest.raises(ValueError, match="differs in weights"):
        generate(arguments(str(other), out), str(tmp_path))


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
    for name in ("warp", "meta"):
        with pytest.raises(ValueError, match=f"'{name}' is none here; use cpu"):
            choose_device(name)
    with pytest.raises(ValueError, match="CUDA devices"):
        choose_device("cuda:99")
    with pytest.raises(ValueError, match="--batch-size must not be negative"):
        generate(arguments(run_folder, tmp_path, batch_size=-1), str(tmp_path))


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


def test_sizes_are_counted_and_refused_where_all_are_alike(run_folder, tmp_path):
    assert parse_sizes("9x2, 18x1") == [9, 9, 18] and parse_sizes("") == []
    with pytest.raises(ValueError, match="'9' is no size and number such as 9x20"):
        parse_sizes("18x80,9")
    with pytest.raises(ValueError, match="'9x0' is no size and number"):
        parse_sizes("9x0")
    with pytest.raises(ValueError, match="sizes have no effect: all samples of this model"):
        generate(arguments(run_folder, tmp_path / "out", num=100, sizes="9x2"), str(tmp_path))
    with pytest.raises(ValueError, match="--num 6 has no effect with --sizes, which ask for 2"):
        generate(arguments(run_folder, tmp_path / "out", num=6, sizes="9x2"), str(tmp_path))


def test_sizes_that_the_model_never_saw_are_told():
    seen = SimpleNamespace(tensors={"sizes": torch.tensor([0, 4, 0, 2])})
    assert unseen_sizes(SimpleNamespace(statistics=seen), [3, 2, 1, 2], torch.arange(4)) == [2]
    nothing = SimpleNamespace(tensors={})
    assert unseen_sizes(SimpleNamespace(statistics=nothing), [2], torch.arange(1)) == []


def test_classes_of_a_model_without_any():
    assert parse_labels("", 0) == [0]
    with pytest.raises(ValueError, match="--labels '3' has no effect: the model has no classes"):
        parse_labels("3", 0)
