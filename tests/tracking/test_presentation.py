"""Runs as MLflow's pages show them: descriptions, data sets, names that put evaluation first."""

from __future__ import annotations

import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from unite.config.schema import TrackingConfig
from unite.metrics.specs import logged
from unite.tracking import (
    DataInput,
    RunFiles,
    finish_run,
    log_results,
    metric_history,
    open_tracker,
    start_run,
)
from unite.tracking.presentation import COMMAND_TAG, NOTE_TAG, command_line, shown_name
from unite.tracking.server import connect

DATA = [
    DataInput(name="digits train", digest="a" * 64, source="/data", context="train", num_rows=1500),
    DataInput(name="digits eval", digest="b" * 64, source="s3://b/x", context="eval", num_rows=297),
]


def start(storage, **more):
    chosen = {"name": "run", "params": {}, "config_dict": {}, "tags": {}} | more
    return start_run(TrackingConfig(), storage=storage, **chosen)


def run_of(handle):
    return connect(handle.uri).get_run(handle.run_id)


def test_an_experiment_is_of_model_training_and_says_what_it_holds(sqlite_run):
    client = connect(sqlite_run.uri)
    tags = client.get_experiment(sqlite_run.experiment_id).tags
    assert tags["mlflow.experimentKind"] == "custom_model_development"
    assert "training images" in tags[NOTE_TAG]


def test_an_experiments_own_description_stays(storage):
    handle = start(storage)
    connect(handle.uri).set_experiment_tag(handle.experiment_id, NOTE_TAG, "mine")
    start(storage)
    assert connect(handle.uri).get_experiment(handle.experiment_id).tags[NOTE_TAG] == "mine"


def test_data_sets_are_inputs_with_digest_and_context_and_are_not_repeated(storage):
    handle = start(storage, data=DATA)
    start(storage, data=DATA, resume_run_id=handle.run_id)
    found = {
        each.tags[0].value: (each.dataset.name, each.dataset.digest, each.dataset.source_type)
        for each in run_of(handle).inputs.dataset_inputs
    }
    assert len(run_of(handle).inputs.dataset_inputs) == 2
    assert found == {
        "train": ("digits train", "a" * 36, "local"),
        "eval": ("digits eval", "b" * 36, "s3"),
    }


def test_a_folder_with_quotes_is_a_source_that_can_be_read(storage):
    place = '/data/the "best"'
    handle = start(storage, data=[replace(DATA[0], source=place)])
    (found,) = run_of(handle).inputs.dataset_inputs
    assert json.loads(found.dataset.source) == {"uri": place}


def test_a_description_has_command_and_headline_numbers_and_follows_the_run(
    storage, tmp_path, pace
):
    handle = start(storage, tags={COMMAND_TAG: "python jobs/train.py digits"})
    assert "python jobs/train.py digits" in run_of(handle).data.tags[NOTE_TAG]
    pace(0.01)
    tracker = open_tracker(handle, spool=tmp_path / "spool")
    tracker.log({"eval/psnr": 31.25, "loss/flow": 0.5}, step=64)
    tracker.close()
    finish_run(handle, "FINISHED")
    note = run_of(handle).data.tags[NOTE_TAG]
    assert "**eval/psnr** 31.25" in note and "loss/flow" not in note
    results = {"eval/generation/fd-pixels": 0.5, "eval/alignment/cka_mean": 0.9}
    log_results(handle, results, step=64, spool=tmp_path / "results")
    note = run_of(handle).data.tags[NOTE_TAG]
    assert note.index("fd-pixels** 0.5") < note.index("eval/psnr"), "the first one first"
    assert "cka_mean" not in note


def test_a_description_shows_the_newest_samples(storage, tmp_path, gradient, pace):
    handle = start(storage)
    pace(0.01)
    tracker = open_tracker(handle, spool=tmp_path / "spool")
    for step, picture in ((64, gradient), (128, 255 - gradient)):
        tracker.image("samples", picture, step)
    tracker.close()
    finish_run(handle, "FINISHED")
    note = run_of(handle).data.tags[NOTE_TAG]
    assert f"get-artifact?path=samples.png&run_uuid={handle.run_id}" in note
    with Image.open(io.BytesIO(RunFiles.open(handle).read("samples.png"))) as newest:
        assert (np.asarray(newest) == 255 - gradient).all()


def test_a_description_that_somebody_edited_stays(storage):
    handle = start(storage)
    connect(handle.uri).set_tag(handle.run_id, NOTE_TAG, "by hand")
    finish_run(handle, "FINISHED")
    assert run_of(handle).data.tags[NOTE_TAG] == "by hand"


def test_the_command_can_be_typed_again_and_holds_no_secret(monkeypatch):
    words = ["/anywhere/jobs/train.py", "digits", "--name", "a b", "--tracking.uri=http://u:pw@h"]
    hidden = ["s3://key:pw@host/x", "http://host/?api_key=1", "--x=password1"]
    monkeypatch.setattr(sys, "argv", [*words, *hidden])
    assert command_line() == (
        "python jobs/train.py digits --name 'a b' '--tracking.uri=***' '***' '***' '--x=***'"
    )


def test_flags_and_names_with_tokens_in_them_are_no_secrets(monkeypatch):
    words = ["--model.encoder.in-context-tokens", "16", "--name", "tokens-16"]
    monkeypatch.setattr(sys, "argv", ["jobs/train.py", "digits", *words])
    assert command_line() == f"python jobs/train.py digits {' '.join(words)}"


def test_a_worker_has_no_command_of_its_own(monkeypatch, storage):
    monkeypatch.setattr(sys, "argv", ["/x/ray/workers/default_worker.py", "--node-ip-address=::1"])
    assert command_line() == ""
    assert COMMAND_TAG not in run_of(start(storage)).data.tags


@pytest.mark.parametrize("name", logged())
def test_what_is_about_the_machine_stands_on_a_page_of_its_own(name):
    group = name.partition("/")[0]
    about_the_machine = group in ("checkpoint", "data", "memory", "throughput", "epoch")
    assert shown_name(name).startswith("system/") == about_the_machine
    assert shown_name(name).startswith("training/") == (group == "disc")
    if not about_the_machine and group != "disc":
        assert shown_name(name) == name


def test_names_are_not_mixed_up_and_evaluation_comes_first():
    shown = [shown_name(name) for name in logged()]
    assert len(set(shown)) == len(logged())
    assert sorted(shown)[0].startswith("eval/")


def test_a_history_is_found_under_the_old_and_the_new_name(storage, tmp_path, pace):
    handle = start(storage)
    connect(handle.uri).log_metric(handle.run_id, "throughput/mfu", 0.25, step=64)
    pace(0.01)
    tracker = open_tracker(handle, spool=tmp_path / "spool")
    tracker.log({"throughput/mfu": 0.5, "eval/psnr": 30.0}, step=128)
    tracker.close()
    assert metric_history(handle, "throughput/mfu") == [(64, 0.25), (128, 0.5)]
    assert metric_history(handle, "eval/psnr") == [(128, 30.0)]


def test_pictures_are_found_under_the_old_and_the_new_key(storage, tmp_path, gradient):
    handle = start(storage)
    log_results(handle, {}, step=7, spool=tmp_path / "r", images={"samples": gradient})
    (name,) = RunFiles.open(handle).images("samples").values()
    assert name.startswith("images/eval~samples+step+7")
    old = connect(handle.uri)
    old.log_text(handle.run_id, "x", name.replace("eval~samples+step+7", "samples+step+3"))
    assert sorted(RunFiles.open(handle).images("samples")) == [3, 7]
