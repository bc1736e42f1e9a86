"""What a start looks at before anything runs."""

import io
import logging
import runpy
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unite import entry
from unite.checkpoints.layout import folder_of
from unite.checkpoints.lease import BusyError, hold
from unite.cluster.connect import CapacityError
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.drivers.plan import print_plan
from unite.drivers.train import launch, prepare, with_whole_checkpoint
from unite.tracking import TrackingError
from unite.training.runs import begin, open_run, request_stop


def write_digits(path, seed: int) -> None:
    """Twenty grey pictures, two of each class."""
    rng, images = np.random.default_rng(seed), []
    for _ in range(20):
        buffer = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (8, 8), dtype=np.uint8)).save(buffer, "PNG")
        images.append(buffer.getvalue())
    pq.write_table(pa.table({"image": images, "label": [*range(10), *range(10)]}), path)


@pytest.fixture
def planned(tmp_path, caplog, capsys):
    """The plan and the warnings of a start on files of these names."""

    def make(*names: str) -> tuple[str, str]:
        (tmp_path / "data").mkdir()
        for seed, name in enumerate(names):
            write_digits(tmp_path / "data" / name, seed)
        changes = {"storage": str(tmp_path), "data.train": str(tmp_path / "data")}
        with caplog.at_level(logging.WARNING):
            print_plan(
                prepare(replace(recipe("smoke"), changes), resume="auto", allow_changes=False)
            )
        return " ".join(capsys.readouterr().out.split()), caplog.text

    return make


def test_splits_in_the_middle_of_names(planned):
    plan, warnings = planned("digits-train.parquet", "digits-test.parquet", "more-train.parquet")
    assert "data 40 images in" in plan
    assert "held out 20 images in" in plan
    assert "trained on" not in plan + warnings


def test_a_training_set_that_is_its_own_held_out_set_is_named(planned, tmp_path):
    plan, warnings = planned("0.parquet", "1.parquet")
    assert f"held out 40 images in {tmp_path}/data, which are trained on" in plan
    assert f"({tmp_path}/data/0.parquet, {tmp_path}/data/1.parquet)" in warnings


def test_files_that_are_not_taken_are_said(planned):
    plan, _ = planned("train-0.parquet", "val-0.parquet", "test-0.parquet", "extra.parquet")
    assert (
        "split eval is what is named validation; not taken: extra.parquet, test-0.parquet" in plan
    )


@pytest.mark.parametrize("mark", ["%", "?"])
def test_a_storage_that_mlflow_would_misread_is_refused_at_once(tmp_path, monkeypatch, mark):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    config = replace(recipe("smoke"), {"storage": str(tmp_path / f"a{mark}20b")})
    with pytest.raises(TrackingError, match=f"holds '[{mark}]'"):
        prepare(config, resume="auto", allow_changes=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("field", ["name", "storage"])
def test_another_place_than_that_of_the_run_to_resume_is_refused(untrained_run, tmp_path, field):
    folder = untrained_run(tmp_path)
    config = replace(recipe("smoke"), {field: "elsewhere"})
    with pytest.raises(ValueError, match=f"--{field} .*elsewhere has no effect with --resume"):
        prepare(config, resume=folder.uri, allow_changes=True)
    same = {"name": folder.name, "storage": str(tmp_path)}
    run = prepare(replace(recipe("smoke"), same), resume=folder.uri, allow_changes=True)
    assert run.folder.uri == folder.uri


@pytest.fixture
def crowd(tmp_path):
    """A run of eight workers, ready to start."""
    changes = {"storage": str(tmp_path), "cluster.num_workers": 8}
    return prepare(replace(recipe("smoke"), changes), resume="auto", allow_changes=False)


def test_a_start_that_does_not_fit_is_refused_before_ray_and_leaves_no_folder(crowd, monkeypatch):
    monkeypatch.setattr("unite.drivers.train.is_private", lambda: True)
    monkeypatch.setattr("unite.drivers.train.reachable_nodes", lambda: [{"CPU": 2.0, "GPU": 0.0}])
    monkeypatch.setattr("unite.drivers.train.connect", pytest.fail)
    with pytest.raises(CapacityError, match="8 workers at"):
        launch(crowd)
    assert not crowd.folder.exists()


def test_a_start_that_mlflow_refuses_leaves_no_folder(crowd, monkeypatch):
    def away(run):
        raise TrackingError("no MLflow server answers")

    monkeypatch.setattr("unite.drivers.train.is_private", lambda: False)
    monkeypatch.setattr("unite.drivers.train.connect", lambda: 0.0)
    monkeypatch.setattr("unite.drivers.train.wait_for", lambda rule, cluster: None)
    monkeypatch.setattr("unite.drivers.train._warn_of_idle_gpus", lambda cluster: None)
    monkeypatch.setattr("unite.drivers.train._start_tracking", away)
    with pytest.raises(TrackingError):
        launch(crowd)
    assert not crowd.folder.exists()


def test_a_second_driver_is_refused_before_it_writes_anything(tmp_path, monkeypatch):
    """Neither the first run's files nor its MLflow run change, and nobody is asked to stop."""
    monkeypatch.setattr("unite.drivers.train.connect", lambda: pytest.fail("Ray was started"))
    changes = {"storage": str(tmp_path), "name": "shared"}
    run = prepare(replace(recipe("smoke"), changes), resume="auto", allow_changes=False)
    with hold(run.folder, "driver"):
        begin(run)
        request_stop(run.folder, "the first")
        run.folder.write_json("run.json", {"mlflow_run_id": "1", "mlflow_uri": "sqlite:///none"})
        before = {name: run.folder.read(name) for name in run.folder.list()}
        assert {"config.json", "STOP", "run.json", "driver"} <= before.keys()
        with pytest.raises(BusyError, match=r"shared is being trained by process \d+ on "):
            launch(run)
        assert {name: run.folder.read(name) for name in run.folder.list()} == before


def test_a_driver_goes_on_from_a_whole_checkpoint(untrained_run, tmp_path):
    folder = untrained_run(tmp_path, images=(256, 512))
    config = replace(recipe("smoke"), {"storage": str(tmp_path), "name": "tiny"})
    run = open_run(config)
    assert with_whole_checkpoint(run) == run
    folder_of(folder, 512).write("COMMITTED", b"")
    assert with_whole_checkpoint(run).resume_from == folder_of(folder, 256)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["nonsense"], "unknown recipe 'nonsense'"),
        (["digitz"], "did you mean digits"),
        (["smoke", "--flow.steps", "0"], "flow.steps = 0 must be above 0"),
        (["smoke", "--domain.patch", "3"], "domain.size = 8 is not divisible"),
        (["unite-b"], "needs --data.train"),
        (["smoke", "--data.train", "/nowhere/at/all"], "/nowhere/at/all"),
        (["smoke", "--storage", "/proc/nothing"], "/proc/nothing"),
    ],
)
def test_bad_input_is_named_before_ray_starts(root, tmp_path, monkeypatch, capsys, flags, words):
    monkeypatch.setattr("ray.init", pytest.fail)
    monkeypatch.setenv("UNITE_STORAGE", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["train.py", *flags])
    script = runpy.run_path(str(root / "jobs" / "train.py"))
    assert entry.run(script["main"]) == 2
    told = capsys.readouterr().err
    assert words in told and "Traceback" not in told


def test_the_script_ends_with_the_code_of_its_errors(root, tmp_path):
    command = [sys.executable, "jobs/train.py", "nonsense", "--storage", str(tmp_path)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown recipe 'nonsense'")
