"""The command's own promises: exit codes, messages, results in MLflow or kept for it."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unite import entry, tracking
from unite.cluster.connect import CapacityError
from unite.config.schema import TrackingConfig
from unite.data.classes import ClassCounts
from unite.drivers.evaluate import compare, evaluate, main, track
from unite.drivers.session import session
from unite.evaluation.arguments import CompareArguments, EvaluateArguments, WorkerArguments
from unite.evaluation.request import open_evaluation
from unite.evaluation.results import read_outcomes
from unite.evaluation.suite import work_items
from unite.metrics.errors import MetricError
from unite.storage import Store

ROOT = Path(__file__).resolve().parents[2]


def job(storage, *flags):
    """jobs/evaluate.py as typed."""
    return subprocess.run(
        [sys.executable, str(ROOT / "jobs" / "evaluate.py"), *flags],
        env={**os.environ, "UNITE_STORAGE": str(storage)},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_bad_input_is_told_without_a_traceback(storage):
    ran = job(storage, "--num-samples", "101")
    assert ran.returncode == 2
    assert "cannot be spread evenly over 10 classes" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "missing"}, "there is no run 'missing'"),
        ({"suite": ("fidelity",)}, "--suite 'fidelity' is unknown"),
        ({"cfg_interval": (0.5, 0.2)}, "cfg_interval = 0.5 0.2 must satisfy"),
        ({"num_steps": 0}, "num_steps = 0 must be above 0"),
        ({"extractor": ("nowhere",)}, "no feature extractor"),
        ({"reference": "nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_bad_input_is_told_before_anything_starts(request_of, changes, message):
    with pytest.raises((ValueError, OSError, RuntimeError), match=message):
        request_of(**changes)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    arguments = WorkerArguments(num_workers=0, use_gpu=True)
    with pytest.raises(CapacityError, match="no CUDA device"), session(arguments):
        pytest.fail("started")


@pytest.mark.slow
def test_the_command_prints_one_table(storage):
    flags = ("--num-workers", "0", "--num-samples", "50", "--extractor", "pixels")
    ran = job(storage, *flags, "--suite", "generation", "entropy", "compute")
    assert ran.returncode == 0, ran.stderr
    for part in ("FD-pixels", "functional_mb", "tflop_per_sample", "2.12 (Table 1)", "after 256"):
        assert part in ran.stdout
    assert "not written to MLflow" in ran.stdout


@pytest.fixture
def tracked(storage, tmp_path):
    """`tiny`, as if it had been trained with tracking, in a database of its own."""
    record = storage / "tiny" / "run.json"

    def connect_to(uri, run_id):
        record.write_text(json.dumps({"mlflow_uri": uri, "mlflow_run_id": run_id}))

    yield connect_to
    record.unlink(missing_ok=True)


@pytest.mark.slow
def test_results_stand_in_the_training_run_at_the_checkpoints_step(storage, tmp_path, tracked):
    handle = tracking.start_run(
        TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db"),
        storage=str(tmp_path),
        name="tiny",
        params={},
        config_dict={},
        tags={},
    )
    tracked(handle.uri, handle.run_id)
    arguments = EvaluateArguments(
        num_workers=0, suite=("reconstruction", "compute"), extractor=("pixels",)
    )
    evaluation = open_evaluation(arguments, str(storage))
    outcomes = evaluate(evaluation)
    assert "results in the training run" in track(evaluation, outcomes)
    psnr = next(row.card.value for row in outcomes[0].rows if row.card.metric == "psnr")
    assert tracking.metric_history(handle, "eval/reconstruction/psnr") == [(256, psnr)]
    names = {path.name for path in (tmp_path / "mlartifacts").rglob("*.*")}
    assert {"results.json", "report.md"} <= names
    picture = "evaluation~reconstruction~reconstructions+step+256"
    assert any(name.startswith(picture) for name in names)


@pytest.mark.slow
def test_results_outlive_an_unreachable_server(storage, tracked, caplog):
    tracked("http://127.0.0.1:9", "0" * 32)
    arguments = EvaluateArguments(num_workers=0, suite=("entropy",))
    with caplog.at_level(logging.ERROR):
        assert main(arguments, str(storage)) == 1
    assert "python jobs/evaluate.py --push " in caplog.text
    home = open_evaluation(arguments, str(storage)).home
    (kept,) = Store.open(home.uri).list("unsent")
    assert read_outcomes(home)
    assert Path(home.path(f"unsent/{kept}/metrics.jsonl")).read_text().count("eval/entropy/norm_mb")


def test_a_broken_database_of_mlflow_keeps_nobody_from_measuring(storage, tracked, tmp_path):
    (tmp_path / "mlflow.db").write_text("a text that is long enough to be no database at all")
    tracked(f"sqlite:///{tmp_path}/mlflow.db", "0" * 32)
    arguments = EvaluateArguments(num_workers=0, suite=("compute",), track=False)
    home = open_evaluation(arguments, str(storage)).home
    home.delete("results.json")
    assert main(arguments, str(storage)) == 0
    assert "compute" in [outcome.suite for outcome in read_outcomes(home)]


def test_a_push_of_a_missing_file_is_an_error(tmp_path, capsys):
    """Exit code 2, as `unite mlflow push` has: 1 is for results that were measured and kept."""
    missing = tmp_path / "metrics.jsonl"
    arguments = EvaluateArguments(push=str(missing))
    assert entry.run(lambda: main(arguments, str(tmp_path))) == 2
    assert f"error: {missing} is no metrics.jsonl" in capsys.readouterr().err


def test_options_beside_a_push_are_refused(tmp_path):
    arguments = EvaluateArguments(push=str(tmp_path / "metrics.jsonl"), suite=("entropy",))
    with pytest.raises(ValueError, match="--suite entropy has no effect with --push"):
        main(arguments, str(tmp_path))


def test_numbers_of_two_evaluations_are_compared(run_suites, request_of, tmp_path):
    home = request_of().home
    run_suites("entropy")
    (tmp_path / "a.json").write_bytes(home.read("results.json"))
    run_suites("entropy", entropy_bins=128)
    (tmp_path / "b.json").write_bytes(home.read("results.json"))
    both = CompareArguments(a=str(tmp_path / "a.json"), b=str(tmp_path / "b.json"))
    compare(replace(both, b=both.a))
    with pytest.raises(MetricError, match=r"details\.bins: 2048 against 128"):
        compare(both)
    compare(replace(both, allow_different_cards=True))


@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_says_that_finished_work_is_kept(
    request_of, monkeypatch, capsys, interruption
):
    (suite,) = request_of(suite=("reconstruction",)).suites
    suite = replace(suite, seed=int(interruption))
    measure, begun = type(suite).measure, []

    def measured(self, instruments, chunk):
        begun.append(chunk)
        if len(begun) == 3:
            signal.raise_signal(interruption)
        return measure(self, instruments, chunk)

    monkeypatch.setattr(type(suite), "measure", measured)
    with pytest.raises(KeyboardInterrupt), session(WorkerArguments(num_workers=0)) as run:
        run("reconstruction", work_items(suite))
    finished = [item for item in work_items(suite) if item.finished]
    assert [item.chunk for item in finished] == begun[:2]
    text = capsys.readouterr().err
    assert f"{len(suite.chunks()) - 2} pieces of work unfinished" in text
    assert "the same command goes on from there" in text.replace("\n", " ")


def test_what_will_be_missing_is_told_before_anything_starts(
    storage, monkeypatch, tmp_path, capsys
):
    monkeypatch.setenv("UNITE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("unite.evaluation.images.sources.MOST_PIXELS", 1)
    monkeypatch.setattr("unite.evaluation.images.sources.SMALLEST_FOR_INCEPTION", 8)
    told = []

    def started(*_):
        told.append(capsys.readouterr().out)
        raise CapacityError("far enough")

    monkeypatch.setattr("unite.drivers.evaluate.evaluate", started)
    arguments = EvaluateArguments(num_workers=0, cfg_adaptive=True, num_samples=100)
    with pytest.raises(CapacityError):
        main(arguments, str(storage))
    assert "No LPIPS. It is not defined for images under 16 pixels" in told[0]
    assert "--cfg-adaptive needs 512 samples" in told[0]


def test_speed_comes_from_the_runs_own_records(storage, run_suites):
    run = storage / "tiny"
    lines = [{"throughput/images_per_s": rate, "throughput/mfu": 0.25} for rate in (9, 10, 99)]
    points = [
        json.dumps({"step": step, "time": 2, "metrics": line}) + "\n"
        for step, line in enumerate(lines, 1)
    ]
    (run / "tracking").mkdir()
    (run / "tracking" / "metrics.jsonl").write_text("".join(points))
    try:
        (outcome,) = run_suites("compute")
    finally:
        shutil.rmtree(run / "tracking")
    rows = {row.card.metric: row.card for row in outcome.rows}
    assert (rows["images_per_s"].value, rows["mfu"].value) == (10, 0.25)
    assert rows["device_hours"].value == pytest.approx(256 / 10 / 3600)
    assert rows["device_hours"].details["workers"] == 1
    assert not outcome.remarks


@pytest.mark.slow
def test_what_mlflow_did_not_take_is_pushed_later(storage, tracked, tmp_path):
    config = TrackingConfig(uri=f"sqlite:///{tmp_path}/mlflow.db")
    empty = {"params": {}, "config_dict": {}, "tags": {}}
    handle = tracking.start_run(config, storage=str(tmp_path), name="tiny", **empty)
    tracked("http://127.0.0.1:9", handle.run_id)
    arguments = EvaluateArguments(num_workers=0, suite=("entropy",), entropy_bins=100)
    before = set(Store.open(open_evaluation(arguments, str(storage)).home.uri).list("unsent"))
    assert main(arguments, str(storage)) == 1
    home = open_evaluation(arguments, str(storage)).home
    (kept,) = set(home.list("unsent")) - before
    target = Path(home.path(f"unsent/{kept}/target.json"))
    target.write_text(target.read_text().replace("http://127.0.0.1:9", handle.uri))
    push = EvaluateArguments(push=home.path(f"unsent/{kept}/metrics.jsonl"))
    assert main(push, str(storage)) == 0
    assert tracking.metric_history(handle, "eval/entropy/norm_mb")


def test_too_few_samples_for_the_inception_score_are_refused(request_of):
    with pytest.raises(ValueError, match="--num-samples 7: the Inception Score .* at least 10"):
        request_of(num_samples=7, labels="uniform")
    with pytest.raises(ValueError, match="--num-steps 4 has no effect: it acts with solver heun"):
        request_of(solver="dopri5", num_steps=4)


def test_samples_of_classes_that_were_never_trained_are_told(storage, monkeypatch):
    counts = ClassCounts(uri="d", counts=np.array([5] * 3 + [0] * 7), num_rows=15, is_part=False)
    monkeypatch.setattr(
        "unite.evaluation.suites.images_generation.class_counts", lambda data, domain: counts
    )
    asked = {"suite": ("generation",), "extractor": ("pixels",), "num_samples": 20}
    told = open_evaluation(EvaluateArguments(num_workers=0, **asked), str(storage)).notices
    assert any("14 of the 20 samples with balanced classes" in line for line in told)


def test_labels_outside_the_classes_stop_an_evaluation(storage, monkeypatch):
    monkeypatch.setattr("unite.data.classes._histogram", lambda *key: (np.array([10]), np.ones(1)))
    asked = {"suite": ("probe",)}
    with pytest.raises(ValueError, match="1 row with labels outside 0..9"):
        open_evaluation(EvaluateArguments(num_workers=0, **asked), str(storage))
