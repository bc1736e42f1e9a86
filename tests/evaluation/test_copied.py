"""A copied run is used where it stands, and the old place stays as it is to the byte."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.drivers.delivery import run_handle
from unite.drivers.evaluate import evaluate, track
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.request import open_evaluation
from unite.sampling.generate_job import GenerateArguments, generate
from unite.tracking import RunHandle
from unite.tracking.spool import Spool, Target
from unite.training.runs import begin, open_run


def content(folder: Path) -> dict[str, str]:
    """Digest and time of every file below a folder."""
    return {
        str(file.relative_to(folder)): f"{hashlib.sha256(file.read_bytes()).hexdigest()} "
        f"{file.stat().st_mtime_ns}"
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


@pytest.fixture
def copy(storage, tmp_path):
    """The run alone, copied and renamed, with the record of a sqlite file that it left behind."""
    old = tmp_path / "old"
    shutil.copytree(storage, old)
    for file in (old / "tiny").rglob("*.json"):
        file.write_text(file.read_text().replace(str(storage), str(old)))
    for file in (old / "tiny" / "checkpoints").rglob("COMMITTED*"):
        marker = json.loads(file.read_text())
        for name in marker["sha256"]:
            marker["sha256"][name] = hashlib.sha256((file.parent / name).read_bytes()).hexdigest()
        file.write_text(json.dumps(marker))
    record = {"mlflow_run_id": "0" * 32, "mlflow_uri": f"sqlite:///{old}/mlflow.db"}
    (old / "tiny" / "run.json").write_text(json.dumps(record))
    (old / "mlflow.db").write_bytes(b"another's")
    new = tmp_path / "new" / "copy"
    shutil.copytree(old / "tiny", new)
    before = content(old)
    yield new
    assert content(old) == before


def test_it_is_evaluated_where_it_stands(copy, monkeypatch):
    arguments = EvaluateArguments(
        run=str(copy), suite=("generation", "reconstruction"), num_samples=60, num_workers=0
    )
    evaluation = open_evaluation(replace(arguments, {"extractor": ("pixels",)}), str(copy.parent))
    outcomes = evaluate(evaluation)
    assert evaluation.home.uri.startswith(str(copy))
    assert evaluation.target.storage == str(copy.parent)
    assert evaluation.target.train.uri.startswith(str(copy.parent))
    assert run_handle(evaluation.target) is None, "its MLflow stayed behind"
    assert "no run to write to here" in track(evaluation, outcomes)


def test_it_goes_on_where_it_stands(copy):
    changes = {"training.epochs": 8 * 32 / 1500, "checkpoint.every_images": 256}
    run = open_run(replace(recipe("smoke"), changes), resume=str(copy))
    assert run.config.storage == str(copy.parent) and run.config.name == "copy"
    assert run.resume_from is not None and run.resume_from.uri.startswith(str(copy))
    assert run.record["mlflow_uri"] == f"sqlite:///{copy.parent}/mlflow.db"
    begin(run)
    assert json.loads((copy / "config.json").read_text())["storage"] == str(copy.parent)


def test_it_draws_samples(copy, tmp_path):
    arguments = GenerateArguments(run="copy", num=4, out=str(tmp_path / "samples"), device="cpu")
    generate(arguments, str(copy.parent))
    with np.load(tmp_path / "samples" / "samples.npz") as drawn:
        assert len(drawn["labels"]) == 4


def test_what_waits_for_mlflow_is_sent_to_the_one_beside_it(copy):
    old = copy.parents[1] / "old"
    (copy / "tracking").mkdir(exist_ok=True)
    spool = Spool(copy / "tracking")
    spool.aim(Target(RunHandle(f"sqlite:///{old}/mlflow.db", "0" * 32)))
    assert spool.target().run.uri == f"sqlite:///{copy.parent}/mlflow.db"
    spool.aim(Target(RunHandle("http://mlflow:5000", "0" * 32)))
    assert spool.target().run.uri == "http://mlflow:5000"
