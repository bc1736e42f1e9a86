"""References to runs: latest, names, MLflow ids, paths."""

import math
import os
import shutil

import pytest

from unite.checkpoints.store import MARKER, CheckpointError
from unite.config.recipes import recipe
from unite.config.schema import RunConfig, SamplingConfig
from unite.config.serialise import replace, to_dict
from unite.runs import (
    MetricsLog,
    curve,
    read_metrics,
    read_record,
    read_run_config,
    resolve_run,
    shares_its_record,
)
from unite.storage import Store

CONFIG = RunConfig(recipe="smoke", sampling=SamplingConfig(solver="euler", num_steps=3))


def make_run(storage, name, *, images=(), committed_at=None, mlflow=None):
    run = Store.open(storage) / name
    run.write_json("config.json", to_dict(CONFIG))
    if mlflow:
        run.write_json("run.json", {"mlflow_run_id": mlflow})
    for seen in images:
        folder = run / "checkpoints" / f"{seen:012d}"
        folder.write_json("state.json", {"config": to_dict(recipe("digits"))})
        folder.write_json(MARKER, {"sha256": {}})
        if committed_at is not None:
            os.utime(folder.path(MARKER), (committed_at, committed_at))
    return run


def test_latest_is_the_run_that_committed_last(tmp_path):
    make_run(tmp_path, "early", images=(10, 999), committed_at=1000)
    late = make_run(tmp_path, "late", images=(10,), committed_at=2000)
    make_run(tmp_path, "never")
    (tmp_path / "data").mkdir()
    assert resolve_run("latest", str(tmp_path)) == late.uri


def test_latest_is_no_trial_of_a_sweep_and_says_its_name(tmp_path, capsys):
    mine = make_run(tmp_path, "mine", images=(10,), committed_at=1000)
    trial = make_run(tmp_path, "trial", images=(10,), committed_at=2000)
    trial.write_json("ablation/sweep.json", {"sweep": "sweep-noise-smoke"})
    assert resolve_run("latest", str(tmp_path)) == mine.uri
    assert capsys.readouterr().err == "latest is mine\n"
    mine.delete()
    with pytest.raises(CheckpointError, match="is a trial of a sweep.*Runs there: trial"):
        resolve_run("latest", str(tmp_path))


def test_latest_without_a_checkpoint_says_so(tmp_path):
    make_run(tmp_path, "unfinished").write("checkpoints/000000000010/state.json", b"{}")
    with pytest.raises(CheckpointError, match=f"no run under {tmp_path} has a committed"):
        resolve_run("latest", str(tmp_path))
    with pytest.raises(CheckpointError, match="has a committed checkpoint yet"):
        resolve_run("latest", str(tmp_path / "absent"))


def test_names_ids_and_paths(tmp_path, monkeypatch):
    first = make_run(tmp_path / "runs", "first", images=(10,), mlflow="abc123")
    make_run(tmp_path / "runs", "second", images=(10,), mlflow="def456")
    storage = str(tmp_path / "runs")
    checkpoint = first / "checkpoints" / "000000000010"
    assert resolve_run("first", storage) == first.uri
    assert resolve_run("abc123", storage) == first.uri
    assert resolve_run(checkpoint.uri, storage) == checkpoint.uri
    monkeypatch.chdir(tmp_path)
    assert resolve_run("runs/first", storage) == first.uri
    (tmp_path / "weights.pt").write_bytes(b"")
    assert resolve_run("weights.pt", storage) == str(tmp_path / "weights.pt")


def test_unknown_reference_lists_the_runs(tmp_path):
    for index in range(10):
        make_run(tmp_path, f"run{index}")
    with pytest.raises(CheckpointError, match=r"no run 'nope'.*run0, run1.*and 2 more"):
        resolve_run("nope", str(tmp_path))
    with pytest.raises(CheckpointError, match="no runs there"):
        resolve_run("nope", str(tmp_path / "absent"))


def test_a_damaged_run_hides_no_other_one(tmp_path):
    for name in ("a", "c"):
        make_run(tmp_path, name, mlflow="id-of-c")
    make_run(tmp_path, "b", mlflow="x").write("config.json", b"{")
    (tmp_path / "a" / "run.json").write_text("{")
    assert resolve_run("id-of-c", str(tmp_path)).endswith("/c")
    with pytest.raises(CheckpointError, match=r"no run 'nope'.*Runs there: a, b, c\..*not JSON"):
        resolve_run("nope", str(tmp_path))


def test_storage_on_s3(s3):
    run = make_run(s3, "cloud", images=(10,), mlflow="abc123")
    for reference in ("latest", "cloud", "abc123", f"{s3}/cloud"):
        assert resolve_run(reference, s3) == run.uri


def test_stored_config(tmp_path):
    run = make_run(tmp_path, "run", images=(10,))
    assert read_run_config(run.uri) == CONFIG
    # A checkpoint's own state is what it was trained with.
    assert read_run_config(f"{run.uri}/checkpoints/000000000010") == recipe("digits")
    assert read_run_config(f"{run.uri}/model.safetensors") is None
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert read_run_config(str(tmp_path / "model.safetensors")) is None
    (tmp_path / "config.json").write_text('{"encoder": {}}')
    assert read_run_config(str(tmp_path)) is None


@pytest.mark.parametrize("text", ['{"mlflow_run', "[]", "null", ""])
def test_a_damaged_record_is_named(tmp_path, text):
    run = make_run(tmp_path, "run", images=(10,), mlflow="abc123")
    assert read_record(run) == {"mlflow_run_id": "abc123"}
    run.write("run.json", text.encode())
    with pytest.raises(CheckpointError, match="run/run.json "):
        read_record(run)
    (tmp_path / "run" / "run.json").unlink()
    assert read_record(run) == {}


def placed(storage, name, uri, **fields):
    """A run as an earlier version wrote it: every place absolute."""
    config = to_dict(replace(CONFIG, {"storage": str(storage), "name": name, **fields}))
    run = make_run(storage, name, images=(10,))
    run.write_json("config.json", config)
    run.write_json("checkpoints/000000000010/state.json", {"config": config})
    run.write_json("run.json", {"mlflow_run_id": "abc", "mlflow_uri": uri})
    return run


@pytest.mark.parametrize("below", ["", "/checkpoints/000000000010"])
def test_a_copied_and_renamed_run_is_where_it_was_opened_from(tmp_path, below):
    old, new = tmp_path / "old", tmp_path / "new"
    for place in (old / "shards", old / "only-here", new / "shards"):
        place.mkdir(parents=True)
    fields = {"data.train": f"{old}/shards", "data.eval": f"{old}/only-here", "weights": "/w"}
    run = placed(old, "run", f"sqlite:///{old}/mlflow.db", **fields)
    shutil.copytree(run.path(), new / "copy")
    config = read_run_config(f"{new}/copy{below}")
    assert (config.storage, config.name) == (str(new), "copy")
    assert (config.data.train, config.data.eval) == (f"{new}/shards", f"{old}/only-here")
    assert config.weights == "/w"
    assert read_record(Store.open(new / "copy"))["mlflow_uri"] == f"sqlite:///{new}/mlflow.db"
    assert read_record(run)["mlflow_uri"] == f"sqlite:///{old}/mlflow.db"
    assert read_run_config(f"{run}{below}").data.train == f"{old}/shards"


def test_a_server_stays_the_same_but_a_copy_that_trains_on_gets_a_run_of_its_own(tmp_path):
    run = placed(tmp_path / "old", "run", "http://mlflow:5000")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    copy = Store.open(tmp_path / "new" / "run")
    assert read_record(copy)["mlflow_uri"] == "http://mlflow:5000"
    assert shares_its_record(copy) and not shares_its_record(run)
    shutil.rmtree(tmp_path / "old")
    assert not shares_its_record(copy), "moved, not copied"


def test_metrics_are_read_from_their_file_and_from_what_older_runs_have(tmp_path):
    run = make_run(tmp_path, "a", images=(30,))
    state = run.read_json("checkpoints/000000000030/state.json")
    history = [{"images": 10, "lr": 1.0}, {"images": 20, "lr": 2.0, "epoch": 0.5}]
    run.write_json("checkpoints/000000000030/state.json", state | {"history": history})
    assert read_metrics(run) == history, "a branch, or a run without the file"
    log = MetricsLog(tmp_path / "a" / "metrics.jsonl")
    log.append({"lr": 2.5}, 20)
    log.append({"eval/psnr": 20.0}, 30)
    log.append({"eval/psnr": math.nan}, 40)
    with log.file.open("a") as file:
        file.write('{"step": 50, "time": 1, "metrics": {"lr": 9.0}}')  # torn: no end of line
    rows = read_metrics(run)
    assert rows[:3] == [
        {"images": 10, "lr": 1.0},
        {"images": 20, "lr": 2.5, "epoch": 0.5},
        {"images": 30, "eval/psnr": 20.0},
    ]
    assert [row["images"] for row in rows] == [10, 20, 30, 40]
    assert curve(run, "lr") == [(10, 1.0), (20, 2.5)]
    assert curve(run, "eval/psnr") == [(30, 20.0)]


def test_metrics_of_older_runs_lie_beside_the_spool(tmp_path):
    run = make_run(tmp_path, "a")
    run.write("tracking/metrics.jsonl", b'{"step": 5, "time": 1, "metrics": {"lr": 0.5}}\n')
    assert read_metrics(run) == [{"images": 5, "lr": 0.5}]


def test_a_point_after_a_torn_line_is_not_lost_with_it(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"lr": 1.0}, 10)
    with log.file.open("a") as file:
        file.write('{"step": 20, "time": 1, "met')
    log.append({"lr": 3.0}, 30)
    assert [point.step for point in log.read()] == [10, 30]


@pytest.mark.parametrize(
    "line",
    [
        b'{"step": 20, "time": 1, "metrics": [1]}\n',
        b'{"step": "x", "time": 1, "metrics": {"lr": 1}}\n',
        b'{"step": 20, "time": 1, "metrics": {"lr": {}}}\n',
        b"\x00\x00\xff\n",
        b"7\n",
    ],
)
def test_a_line_of_something_else_costs_only_itself_and_is_told(tmp_path, line, caplog):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"lr": 1.0}, 10)
    with log.file.open("ab") as file:
        file.write(line)
    log.append({"lr": 3.0}, 30)
    assert [point.step for point in log.read()] == [10, 30]
    log.repair(30)
    assert "metrics.jsonl: 1 lines were incomplete and are dropped" in caplog.text
    assert len(log.file.read_bytes().splitlines()) == 2


def test_repair_forgets_what_did_not_happen(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (10, 20, 30):
        log.append({"lr": float(step)}, step)
    log.repair(20)
    log.append({"lr": 7.0}, 30)
    points = list(log.read())
    assert [(point.step, point.metrics["lr"]) for point in points] == [(10, 10), (20, 20), (30, 7)]
    assert list(log.read(points[1].end)) == points[2:]
