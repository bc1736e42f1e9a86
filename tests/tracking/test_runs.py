"""Runs as the driver starts, continues, finishes and finds them (on sqlite)."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from unite.config.schema import TrackingConfig
from unite.tracking import (
    RunHandle,
    TrackingError,
    find_runs,
    finish_run,
    open_tracker,
    push_spool,
    runs,
    start_run,
)
from unite.tracking.server import connect
from unite.tracking.spool import Spool


def start(storage: str, **changes) -> RunHandle:
    arguments = {
        "name": "digits-1",
        "params": {"flow.steps": 4},
        "config_dict": {"flow": {"steps": 4}},
        "tags": {"recipe": "digits"},
    }
    return start_run(TrackingConfig(), storage=storage, **{**arguments, **changes})


def info(handle: RunHandle):
    return connect(handle.uri).get_run(handle.run_id).info


def data(handle: RunHandle):
    return connect(handle.uri).get_run(handle.run_id).data


def test_a_run_has_name_params_tags_and_config(storage):
    handle = start(storage)
    assert handle.uri == f"sqlite:///{storage}/mlflow.db"
    assert info(handle).run_name == "digits-1"
    assert info(handle).status == "RUNNING"
    assert data(handle).params == {"flow.steps": "4"}
    assert data(handle).tags["recipe"] == "digits"
    config = Path(storage, "mlartifacts", handle.run_id, "artifacts", "config.json")
    assert json.loads(config.read_text()) == {"flow": {"steps": 4}}


def test_more_params_than_a_request_takes_and_longer_ones(storage):
    params = {f"group.field_{number}": number for number in range(250)}
    handle = start(storage, params={**params, "long": "x" * 9000, "empty": "", "none": None})
    stored = data(handle).params
    assert len(stored) == 253
    assert stored["group.field_249"] == "249"
    assert stored["long"] == "x" * 5997 + "..."
    assert stored["empty"] == ""


def test_a_start_makes_few_requests(storage, monkeypatch):
    """Hundreds may begin at once; beside these there is the server's check and the config's PUT."""
    start(storage)
    calls = []

    class Counted:
        def __init__(self, client):
            self.client = client

        def __getattr__(self, name):
            calls.append(name)
            return getattr(self.client, name)

    monkeypatch.setattr(runs, "connect", lambda uri: Counted(connect(uri)))
    start(storage)
    assert calls == ["get_experiment_by_name", "create_run", "log_batch"]


def test_two_runs_share_an_experiment(storage):
    first, second = start(storage), start(storage)
    assert first.experiment_id == second.experiment_id
    assert first.run_id != second.run_id


def test_a_run_is_continued_under_its_id(storage):
    handle = start(storage)
    finish_run(handle, "FAILED")
    again = start(storage, resume_run_id=handle.run_id)
    assert again == handle
    assert info(handle).status == "RUNNING"
    assert "resumed_with_changes" not in data(handle).tags


def test_changed_params_are_noted_on_a_continued_run(storage):
    handle = start(storage)
    start(storage, resume_run_id=handle.run_id, params={"flow.steps": 14, "new": 1})
    assert data(handle).params == {"flow.steps": "4", "new": "1"}
    assert data(handle).tags["resumed_with_changes"] == "flow.steps: 4 -> 14"


@pytest.mark.parametrize("deleted", [True, False])
def test_a_run_that_mlflow_no_longer_has_is_made_anew(storage, caplog, deleted):
    handle = start(storage)
    lost = handle.run_id if deleted else "f" * 32
    if deleted:
        connect(handle.uri).delete_run(handle.run_id)
    again = start(storage, resume_run_id=lost)
    assert again.run_id != lost
    assert f"no run {lost}" in caplog.text


def test_the_spool_brings_the_whole_curve_to_a_new_run(storage, tmp_path, pace):
    for steps, resume_step in (((8, 16), None), ((24,), 16)):
        handle = start(storage)
        pace(3600)
        tracker = open_tracker(handle, spool=tmp_path / "spool", resume_step=resume_step)
        for step in steps:
            tracker.log({"lr": 0.1}, step)
        tracker.close()
    history = connect(handle.uri).get_metric_history(handle.run_id, "lr")
    assert [point.step for point in history] == [8, 16, 24]


def test_a_deleted_experiment_is_named_with_the_cure(storage):
    handle = start(storage)
    connect(handle.uri).delete_experiment(handle.experiment_id)
    with pytest.raises(TrackingError, match="'unite' was deleted.*mlflow experiments restore"):
        start(storage)


def test_an_artifact_store_that_cannot_be_written_is_refused(storage):
    Path(storage, "mlartifacts").write_text("in the way")
    with pytest.raises(TrackingError, match="takes runs but not artifacts"):
        start(storage)
    (run,) = find_runs(f"sqlite:///{storage}/mlflow.db", "unite")
    assert run.status == "FAILED"


def test_trials_are_children_found_by_tag(storage):
    parent = start(storage, name="sweep")
    for digest in ("aaa", "bbb"):
        trial = start(storage, parent_run_id=parent.run_id, tags={"trial": digest})
        finish_run(trial, "FINISHED")
    (found,) = find_runs(parent.uri, "unite", "tags.trial = 'bbb' and status = 'FINISHED'")
    assert found.run_id == trial.run_id
    assert found.name == "digits-1"
    assert found.params == {"flow.steps": "4"}
    assert found.tags["mlflow.parentRunId"] == parent.run_id
    assert len(find_runs(parent.uri, "unite")) == 3


def test_searching_what_does_not_exist(storage):
    handle = start(storage)
    with pytest.raises(TrackingError, match="no experiment 'other'.*unite"):
        find_runs(handle.uri, "other")
    with pytest.raises(TrackingError, match="there is no .*elsewhere.db"):
        find_runs(f"sqlite:///{storage}/elsewhere.db", "unite")
    with pytest.raises(TrackingError, match="cannot search"):
        find_runs(handle.uri, "unite", "not a filter")


def test_finishing_never_raises_and_the_status_is_pushed_later(storage, tmp_path, caplog, pace):
    handle = start(storage)
    pace(3600)
    tracker = open_tracker(handle, spool=tmp_path)
    tracker.close()
    database = Path(storage, "mlflow.db")
    gone = RunHandle("http://127.0.0.1:1", handle.run_id, handle.experiment_id)
    with caplog.at_level(logging.WARNING):
        finish_run(gone, "FINISHED", spool=tmp_path)
    assert f"unite mlflow push {tmp_path / 'metrics.jsonl'}" in caplog.text
    assert database.exists() and Spool(tmp_path).target().status == "FINISHED"
    push_spool(tmp_path)
    assert info(handle).status == "FINISHED"
    assert Spool(tmp_path).target().status == ""


def test_mlflow_keeps_quiet(empty_database, storage, capfd):
    finish_run(start(storage, tags={}), "FINISHED")
    assert empty_database.with_suffix(".noise").read_text() == ""
    output = capfd.readouterr()
    assert output.out == "" and output.err == ""
