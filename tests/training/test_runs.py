"""Requests to stop mean one driver's run, or whoever trains it; a run keeps its order of rows."""

from __future__ import annotations

import pytest

from unite.config.recipes import recipe
from unite.config.serialise import digest, replace
from unite.storage import Store
from unite.training.runs import begin, open_run, request_stop, stop_asked


def opened(storage, lanes: int, workers: int, **how):
    changes = {"storage": str(storage), "data.lanes": lanes, "cluster.num_workers": workers}
    return open_run(replace(recipe("smoke"), changes), **how)


@pytest.mark.parametrize(
    ("lanes", "workers", "taken"),
    [(16, 1, 16), (16, 8, 16), (16, 16, 16), (16, 64, 64), (16, 6, 18), (2, 3, 3), (16, 256, 256)],
)
def test_a_new_run_has_a_multiple_of_its_workers_lanes(tmp_path, lanes, workers, taken):
    run = opened(tmp_path, lanes, workers)
    assert run.config.data.lanes == taken
    asked = replace(recipe("smoke"), {"data.lanes": lanes})
    assert run.folder.name == f"smoke-{digest(asked)}", "its name is that of what was asked"


def test_a_run_keeps_its_lanes_whatever_the_workers_later(tmp_path):
    begin(opened(tmp_path, 16, 64))
    assert opened(tmp_path, 16, 8).config.data.lanes == 64
    assert opened(tmp_path, 16, 96).config.data.lanes == 64
    begin(opened(tmp_path / "earlier", 16, 8))
    assert opened(tmp_path / "earlier", 16, 64).config.data.lanes == 16, "as it began"


def test_a_branch_keeps_the_lanes_of_its_run(untrained_run, tmp_path):
    run = untrained_run(tmp_path, images=(256, 512))
    places = [run / "checkpoints" / name for name in run.list("checkpoints")]
    changes = {"storage": str(tmp_path), "cluster.num_workers": 3}
    config = replace(recipe("smoke"), changes)
    branch = open_run(config, resume=places[0].uri, allow_changes=True)
    assert branch.folder.name.startswith(f"{run.name}-from-")
    assert branch.config.data.lanes == recipe("smoke").data.lanes == 2


def test_a_run_is_continued_by_its_name_as_other_commands_take_it(tmp_path):
    first = opened(tmp_path, 2, 1)
    begin(first)
    assert opened(tmp_path, 2, 1, resume=first.folder.name).folder.uri == first.folder.uri
    with pytest.raises(ValueError, match="neither a run folder"):
        opened(tmp_path, 2, 1, resume="nope")


@pytest.mark.parametrize(
    "owner, asked, stops", [("a", "a", True), ("a", "", True), ("a", "b", False), ("", "", True)]
)
def test_a_request_stops_its_own_run_alone(tmp_path, owner, asked, stops):
    folder = Store.open(tmp_path)
    assert not stop_asked(folder, owner)
    request_stop(folder, asked)
    assert stop_asked(folder, owner) is stops


def test_a_relative_folder_of_weights_is_found_by_workers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = replace(recipe("smoke"), {"storage": "runs", "weights": "weights"})
    assert open_run(config).config.weights == str(tmp_path / "weights")
