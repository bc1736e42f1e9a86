"""jobs/export.py: the folder, the registered model, and who becomes the champion."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import unite
from unite.checkpoints.store import CheckpointError, latest
from unite.commands.export import export, prepare
from unite.commands.export_request import ExportArguments
from unite.evaluation.card import MetricCard
from unite.evaluation.results import Outcome, Row, write_outcomes
from unite.evaluation.target import open_subject
from unite.storage import Store
from unite.tracking import TrackingError, registry
from unite.tracking.server import connect


@pytest.fixture
def run(storage, untrained_run):
    return untrained_run(storage, images=(256, 512))


def evaluated(storage, reference, **changes):
    """Pretends that `jobs/evaluate.py` has measured a checkpoint's PSNR."""
    subject = open_subject(reference, str(storage), ema=True)
    fields = {
        "metric": "psnr",
        "value": 20.0,
        "step": subject.images,
        "suite": "reconstruction",
        "checkpoint": subject.digest,
        "num_samples": 297,
        **changes,
    }
    outcome = Outcome(
        suite="reconstruction", rows=(Row(card=MetricCard(**fields)),), protocol="held-out images"
    )
    write_outcomes(Store.open(subject.home), [outcome])
    return subject


def run_export(storage, **arguments) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as said:
        export(ExportArguments(**arguments), str(storage))
    return said.getvalue()


def checkpoint(run, images) -> str:
    return (run / "checkpoints" / f"{images:012d}").uri


def test_the_folder_is_a_model_that_explains_itself(storage, run):
    subject = evaluated(storage, "tiny")
    assert "000000000512" in run_export(storage, run="tiny")
    folder = run / "exports" / "000000000512"
    assert folder.list() == ["README.md", "cards.json", "config.json", "model.safetensors"]
    ours, theirs = unite.load(folder.uri), unite.load(run.uri)
    for name, tensor in theirs.state_dict().items():
        assert (ours.state_dict()[name] == tensor).all()
    cards = folder.read_json("cards.json")
    assert cards["checkpoint"] == subject.digest
    assert [card["metric"] for card in cards["cards"]] == ["psnr"]
    text = folder.read("README.md").decode()
    for words in ("smoke", subject.digest, "PSNR | 20", "held-out images", "unite.load", "Limits"):
        assert words in text
    assert str(storage) not in text


def test_what_was_measured_on_other_weights_stays_out(storage, run):
    evaluated(storage, "tiny", weights="raw")
    run_export(storage, run="tiny")
    text = (run / "exports" / "000000000512").read("README.md").decode()
    assert f"None yet: `python jobs/evaluate.py --run {latest(run)}`" in text
    run_export(storage, run="tiny", ema=False)
    raw = run / "exports" / "000000000512-raw"
    assert len(raw.read_json("cards.json")["cards"]) == 1


def test_the_same_command_renews_the_folder_and_no_other_model_replaces_it(storage, run):
    run_export(storage, run="tiny", out=f"{storage}/out")
    evaluated(storage, "tiny")
    run_export(storage, run="tiny", out=f"{storage}/out")
    assert len(Store.open(f"{storage}/out").read_json("cards.json")["cards"]) == 1
    with pytest.raises(ValueError, match="out already holds another model; name another --out"):
        run_export(storage, run=checkpoint(run, 256), out=f"{storage}/out")


def test_evaluations_of_an_export_outlive_its_cards(storage, run):
    """They are kept by the digest of the weights, which the cards are no part of."""
    run_export(storage, run="tiny", out=f"{storage}/out")
    before = open_subject(f"{storage}/out", storage, ema=True)
    evaluated(storage, "tiny")
    run_export(storage, run="tiny", out=f"{storage}/out")
    assert open_subject(f"{storage}/out", storage, ema=True) == before


def test_a_run_on_s3_is_exported_there(s3, untrained_run):
    run = untrained_run(s3)
    run_export(s3, run="tiny")
    assert unite.load((run / "exports" / "000000000256").uri)


def test_the_registered_model_predicts_and_reconstructs(storage, run, monkeypatch):
    import mlflow.pyfunc
    import pandas

    said = run_export(storage, run="tiny", register="digits")
    uri = f"sqlite:///{storage}/mlflow.db"
    assert f"registered digits version 1 at {uri}" in said
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    model = mlflow.pyfunc.load_model("models:/digits/1")
    images = model.predict(pandas.DataFrame({"label": [3, 1]}), params={"seed": 7})
    assert images.shape == (2, 8, 8, 1)
    assert images.dtype == np.uint8
    np.testing.assert_array_equal(images, model.predict({"label": np.array([3, 1])}, {"seed": 7}))
    file = io.BytesIO()
    Image.fromarray(images[0, ..., 0]).save(file, format="PNG")
    rebuilt = model.predict(pandas.DataFrame({"image": [file.getvalue()]}))
    assert rebuilt.shape == (1, 8, 8, 1)
    with pytest.raises(ValueError, match="label 10 in row 0: the model has 10 classes"):
        model.predict({"label": np.array([10])})
    with pytest.raises(ValueError, match="give one of the columns"):
        model.predict(np.array([1]))
    files = files_of(uri, "digits")
    assert not [name for name in files if name.endswith((".pkl", ".pickle"))]
    assert any(name.endswith("code/unite/sampling/serving.py") for name in files)


def files_of(uri: str, name: str) -> list[str]:
    from mlflow.artifacts import download_artifacts

    folder = Path(download_artifacts(f"models:/{name}/1", tracking_uri=uri))
    return [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]


def test_the_registered_model_brings_its_own_code(storage, run, tmp_path):
    """Loaded where unite is not importable otherwise."""
    run_export(storage, run="tiny", register="digits")
    script = (
        "import sys, json, importlib.util, mlflow.pyfunc; "
        "sys.path = [p for p in sys.path if not p.endswith('/platform')]; "
        "sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f)]; "
        "assert importlib.util.find_spec('unite') is None; "
        f"mlflow.set_tracking_uri('sqlite:///{storage}/mlflow.db'); "
        "model = mlflow.pyfunc.load_model('models:/digits/1'); "
        "print(json.dumps(model.predict({'label': [3, 1]}).shape)); "
        "import unite; print(unite.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-2000:]
    shape, file = done.stdout.splitlines()[-2:]
    assert json.loads(shape) == [2, 8, 8, 1]
    assert file.endswith("code/unite/__init__.py")


def champion(storage) -> str:
    return registry.champion(f"sqlite:///{storage}/mlflow.db", "digits").number


def test_the_champion_is_the_best_under_one_card(storage, run):
    first, second = checkpoint(run, 256), checkpoint(run, 512)
    evaluated(storage, first, value=20.0)
    asked = {"register": "digits", "champion": "psnr"}
    assert "now digits version 1 (psnr 20; there was none)" in run_export(
        storage, run=first, **asked
    )
    evaluated(storage, second, value=19.0)
    said = run_export(storage, run=second, **asked)
    assert "the champion stays digits version 1: psnr 19 is not higher than 20" in said
    assert champion(storage) == "1"
    evaluated(storage, second, value=25.0, num_samples=100)
    said = run_export(storage, run=second, **asked)
    assert "psnr was measured differently: num_samples 100 against 297" in said
    assert champion(storage) == "1"
    evaluated(storage, second, value=25.0)
    said = run_export(storage, run=second, **asked)
    assert "now digits version 4 (psnr 25; before it was 1)" in said
    assert champion(storage) == "4"


def test_a_distance_improves_downwards_and_a_champion_without_a_card_stays(storage, run):
    asked = {"run": "tiny", "register": "digits"}
    evaluated(storage, "tiny", metric="fd-digits-cnn", value=9.0, suite="generation")
    run_export(storage, **asked, champion="fd-digits-cnn")
    evaluated(storage, "tiny", metric="fd-digits-cnn", value=8.0, suite="generation")
    said = run_export(storage, **asked, champion="fd-digits-cnn")
    assert "now digits version 2 (fd-digits-cnn 8;" in said
    evaluated(storage, "tiny", value=30.0)
    said = run_export(storage, **asked, champion="psnr")
    assert "stays digits version 2: it has no card of psnr to compare with" in said
    assert champion(storage) == "2"


def test_without_a_metric_nobody_is_crowned(storage, run, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{storage}/mlflow.db")
    before = dict(os.environ)
    run_export(storage, run="tiny", register="digits")
    assert dict(os.environ) == before
    assert registry.champion(f"sqlite:///{storage}/mlflow.db", "digits") is None


def test_the_version_links_to_its_training_run(storage, run, sqlite_run):
    run.write_json("run.json", {"mlflow_run_id": sqlite_run.run_id, "mlflow_uri": sqlite_run.uri})
    run_export(storage, run="tiny", register="digits")
    version = connect(sqlite_run.uri).get_model_version("digits", "1")
    assert version.run_id == sqlite_run.run_id
    assert version.tags["images"] == "512"


def test_a_registry_that_dies_halfway_leaves_the_folder(storage, run, monkeypatch):
    def refuse(*arguments, **named):
        raise ConnectionError("nobody answers")

    monkeypatch.setattr(registry, "_upload", refuse)
    with pytest.raises(TrackingError, match="nobody answers.*is complete and kept"):
        run_export(storage, run="tiny", register="digits")
    assert unite.load((run / "exports" / "000000000512").uri)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ({"run": "nope"}, CheckpointError, "no run 'nope'.*Runs there: tiny"),
        ({"register": "a/b"}, ValueError, "--register 'a/b'"),
        ({"champion": "psnr"}, ValueError, "--champion psnr has no effect without --register"),
        ({"register": "d", "champion": "nfe"}, ValueError, "'nfe': neither higher nor lower"),
        ({"register": "d", "champion": "psnr"}, ValueError, "run python jobs/evaluate.py --run"),
        ({"register": "d", "mlflow": "http://127.0.0.1:9"}, TrackingError, "no MLflow server"),
        ({"register": "d", "mlflow": "nonsense"}, TrackingError, "not supported"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(storage, run, arguments, kind, words):
    with pytest.raises(kind, match=words):
        prepare(ExportArguments(**{"run": "tiny", **arguments}), storage)
    assert not run.exists("exports/000000000512/model.safetensors")


def test_a_metric_without_a_card_names_those_that_there_are(storage, run):
    evaluated(storage, "tiny")
    with pytest.raises(ValueError, match="no card of 'ssim'. Measured so far: psnr"):
        prepare(ExportArguments(run="tiny", register="d", champion="ssim"), storage)


def test_the_command_names_a_run_without_checkpoints(root, storage, untrained_run):
    untrained_run(storage, images=())
    command = [sys.executable, "jobs/export.py", "--run", "tiny", "--storage", storage]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2
    assert "has no committed checkpoint yet" in done.stderr
    assert "Traceback" not in done.stderr
