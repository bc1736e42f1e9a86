"""A storage with many checkpoints: what they share is looked at once, and nothing is mixed up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny_run import dry_round
from unite.checkpoints.store import STATE_FILE
from unite.config.schema import TrackingConfig
from unite.drivers import survey as module
from unite.drivers.survey import find_checkpoints, survey
from unite.evaluation.results import write_outcomes
from unite.scheduling.rounds import ScheduleArguments
from unite.tracking import start_run

SUITES = ("generation", "entropy", "trajectory")


def asked(**changes) -> ScheduleArguments:
    fields = {"suite": SUITES, "extractor": ("pixels",), "num_samples": 100, "experiment": ""}
    return ScheduleArguments(**{**fields, **changes})


def one_by_one(storage) -> set[tuple[str, str]]:
    """(checkpoint, digest) of every request, each checkpoint surveyed alone."""
    checkpoints = find_checkpoints(asked(), str(storage))
    alone = [survey(asked(run=each.uri), str(storage)).missing for each in checkpoints]
    return {(request.subject.uri, request.digest) for requests in alone for request in requests}


@pytest.fixture
def calls(monkeypatch):
    """Requests that were checked in full."""
    seen = []
    checked = module.open_evaluation
    monkeypatch.setattr(
        module, "open_evaluation", lambda *args: seen.append(args) or checked(*args)
    )
    return seen


def test_what_the_checkpoints_of_a_run_share_is_checked_once(tmp_path, untrained_run, calls):
    untrained_run(tmp_path, "a", images=(256, 512, 768))
    untrained_run(tmp_path, "b", images=(256, 512))
    found = survey(asked(), str(tmp_path)).missing
    assert len(calls) == 2
    assert len(found) == 5 * len(SUITES)
    assert {(request.subject.uri, request.digest) for request in found} == one_by_one(tmp_path)
    assert {(request.run, request.images) for request in found} == {
        ("a", 256), ("a", 512), ("a", 768), ("b", 256), ("b", 512)
    }  # fmt: skip
    assert {request.arguments.run for request in found} == {
        request.subject.uri for request in found
    }


def test_a_result_counts_for_its_own_checkpoint(tmp_path, untrained_run):
    untrained_run(tmp_path, images=(256, 512))
    chosen = next(
        request
        for request in survey(asked(), str(tmp_path)).missing
        if request.suite == "generation" and request.images == 512
    )
    task = chosen.measurement.as_made(chosen.subject)
    assert task is not None
    write_outcomes(task.folder, [])
    found = survey(asked(), str(tmp_path))
    assert found.done == 1
    left = {(request.suite, request.images) for request in found.missing}
    assert left == {(suite, at) for suite in SUITES for at in (256, 512)} - {("generation", 512)}


def test_a_run_whose_config_was_changed_on_the_way_is_measured_as_each_checkpoint_says(
    tmp_path, untrained_run, calls
):
    run = untrained_run(tmp_path, images=(256, 512))
    path = Path(run.path(f"checkpoints/{512:012d}/{STATE_FILE}"))
    state = json.loads(path.read_text())
    state["config"]["sampling"]["num_steps"] += 1
    path.write_text(json.dumps(state))
    found = survey(asked(), str(tmp_path)).missing
    assert len(calls) == 2
    steps = {
        request.images: request.measurement.as_asked(request.subject).sampling.num_steps
        for request in found
        if request.suite == "generation"
    }
    assert steps[512] == steps[256] + 1
    assert {(request.subject.uri, request.digest) for request in found} == one_by_one(tmp_path)


@pytest.mark.parametrize("extractor", ["auto", "pixels"])
def test_a_scan_needs_nothing_that_computes(tmp_path, untrained_run, extractor):
    """torch alone is half a gigabyte; a scheduler may stand for days."""
    untrained_run(tmp_path, images=(256, 512))
    words = [] if extractor == "auto" else ["--extractor", extractor]
    told = dry_round(tmp_path, *words)
    assert "results: 0 there, 14 missing" in told
    assert "HEAVY []" in told
    assert "END 0" in told


def test_mlflow_is_asked_by_a_process_that_ends(tmp_path, untrained_run):
    """Its client took 110 MiB of the scheduler's memory for ever."""
    here, there = tmp_path / "here", tmp_path / "there"
    untrained_run(here, "mine", images=(256,))
    untrained_run(there, "theirs", images=(256,))
    config = TrackingConfig(uri=f"sqlite:///{here}/mlflow.db")
    params = {"storage": str(there), "name": "theirs"}
    start_run(config, storage=str(here), name="theirs", params=params, config_dict={}, tags={})
    told = dry_round(here)
    assert "results: 0 there, 14 missing" in told, told
    assert "HEAVY []" in told


def test_data_that_are_not_a_checkpoints_own_are_told_for_it_alone(tmp_path, untrained_run):
    run = untrained_run(tmp_path, images=(256, 512))
    path = Path(run.path(f"checkpoints/{512:012d}/{STATE_FILE}"))
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "manifest_digest": "0" * 64}))
    found = survey(asked(), str(tmp_path))
    assert {request.images for request in found.missing} == {256}
    (trouble,) = found.troubled
    assert f"checkpoints/{512:012d}: the checkpoint was trained on data 000000000000" in trouble
