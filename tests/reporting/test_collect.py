"""What is read of an experiment, and that nothing broken stops it or goes unsaid."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from unite import tracking
from unite.reporting.charts import dynamics
from unite.reporting.collect import _curves, _history, collect, evenly
from unite.reporting.pictures import thumbnail
from unite.storage import StorageError, Store


def test_runs_that_write_to_one_folder_are_one_run(collected):
    folders = [run.info.place for run in collected.runs]
    assert len(set(folders)) == len(folders)
    assert {parent.tags["axis"] for parent in collected.sweeps} == {"flow_ratio", "noise", "colour"}


def test_a_whole_run_has_everything(collected, index, rich):
    run = collected.runs[index[rich.good]]
    assert run.problems == [] and run.unfinished == "" and run.reachable
    assert list(run.samples) == [9_600, 19_200, 28_800, 38_400] and run.num_samples == 4
    assert run.images == 38_400 and len(run.curves["loss/flow"]) == 12
    further = replace(run, progress={"images": 40_000, "total_images": 99_999})
    assert further.images == 40_000, "the number beside is the one in `unfinished`"
    assert "40,000 of 99,999" in further.unfinished
    assert run.alignment.depth == 4 and run.trajectory is not None


def test_a_broken_run_names_each_thing_that_is_broken(collected, index, rich):
    run = collected.runs[index[rich.broken]]
    text = "\n".join(run.problems)
    for words in (
        "900 of 38,400 images",
        f"generation-{'1' * 16}/results.json is not whole",
        "the evaluation of probe is not finished",
        "alignment.json of its alignment cannot be shown",
        "trajectory.png of its trajectory cannot be shown (12 bytes that are no whole picture)",
        "sample grid at step 900 cannot be shown",
    ):
        assert words in text, words
    assert run.alignment is None and run.trajectory is None and list(run.samples) == [500]


def test_grids_that_the_page_has_no_room_for_are_counted(seen, index, rich):
    run = seen.data.runs[index[rich.many]]
    assert (len(run.samples), run.num_samples, max(run.samples)) == (6, 9, 9_000)
    words = [problem.words for problem in seen.problems if problem.run == index[rich.many]]
    assert words == ["6 of its 9 sample grids are shown"]
    assert run.problems == [], "which makes the run no less whole"


@pytest.mark.parametrize(("most", "left"), [(9, [1, 2, 3, 4, 5]), (2, [3, 5]), (1, [5]), (0, [])])
def test_a_choice_is_even_and_has_the_last(most, left):
    assert evenly([1, 2, 3, 4, 5], most) == left


def test_a_storage_that_was_moved_is_found_where_it_is(rich, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(rich.storage, moved)
    database = moved / rich.uri.rsplit("/", 1)[-1]
    assert database.exists()
    for folder in rich.storage.glob("digits-*"):
        assert (moved / folder.name).is_dir()
    found = collect(f"sqlite:///{database}", "rich", str(moved))
    assert {run.name for run in found.runs} >= {rich.good, rich.broken}


@pytest.mark.parametrize("reachable", [True, False])
def test_a_folder_that_was_deleted_and_trained_anew_is_the_new_run(writer, reachable):
    for seed, status in ((0, "FAILED"), (1, "FINISHED")):
        handle, folder = writer.start("again", folder="again", params={"training.seed": seed})
        writer.losses(handle, seed)
        tracking.finish_run(handle, status)
    if not reachable:
        shutil.rmtree(folder.path())
    (run,) = collect(writer.uri, "rich", str(writer.storage)).runs
    assert (run.info.params["training.seed"], run.info.status) == ("1", "FINISHED")
    assert run.reachable == reachable and run.unfinished == ""


def test_a_training_is_told_from_the_trials_that_were_measured_on_it(writer):
    handle, _ = writer.start("trained", folder="trained")
    writer.losses(handle, 0)
    trial, folder = writer.start("F = 3, seed 0", folder="trained", tags={"axis": "flow_ratio"})
    folder.write_json("run.json", {"mlflow_run_id": handle.run_id})
    tracking.finish_run(trial, "FINISHED")
    (run,) = collect(writer.uri, "rich", str(writer.storage)).runs
    assert run.name == "trained" and [info.name for info in run.trials] == ["F = 3, seed 0"]


def test_a_storage_that_does_not_answer_is_said_with_the_reason(writer, monkeypatch):
    handle, _ = writer.start("far", folder="far")
    asked = []

    def refused(store, name=""):
        asked.append(store)
        raise StorageError(f"cannot read {store}: no credentials")

    monkeypatch.setattr(Store, "is_file", refused)
    (run,) = collect(writer.uri, "rich", str(writer.storage)).runs
    assert len(asked) == 1 and not run.reachable
    assert any(
        "cannot be read, so its numbers" in p and "no credentials" in p for p in run.problems
    )


def test_a_run_that_was_copied_from_a_storage_that_is_away_has_no_such_problem(
    writer, tmp_path_factory, monkeypatch
):
    copied, is_file = tmp_path_factory.mktemp("copied"), Store.is_file
    for name in ("here", "away"):
        writer.start(name, folder=name)
    shutil.copytree(writer.storage / "here", copied / "here")

    def refused(store, name=""):
        if store.is_below(Store.open(writer.storage)):
            raise StorageError(f"cannot read {store}: no credentials")
        return is_file(store, name)

    monkeypatch.setattr(Store, "is_file", refused)
    found = {run.name: run for run in collect(writer.uri, "rich", str(copied)).runs}
    assert {name: run.reachable for name, run in found.items()} == {"here": True, "away": False}
    assert "no credentials" in "".join(found["away"].problems)
    assert "cannot be read" not in "".join(found["here"].problems)


def test_a_domain_names_its_samples(writer):
    handle, folder = writer.start("qm9", folder="qm9")
    progress = {"state": "done", "images": 9, "total_images": 9, "noun": "molecule"}
    folder.write_json("progress.json", progress)
    writer.losses(handle, 0)
    found = collect(writer.uri, "rich", str(writer.storage)).runs
    (panel,) = dynamics(found)
    assert panel.x_label == "training molecules seen"


@pytest.mark.parametrize("data", [b"", b"\x89PNG", b"GIF89a"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(ValueError, match="no whole picture"):
        thumbnail(data)


def test_losses_are_the_folders_own_and_mlflows_where_it_has_none(tmp_path, monkeypatch):
    told = {"loss/reconstruction": [(8, 2.0), (16, float("nan"))], "loss/flow": [(8, 3.0)]}
    monkeypatch.setattr(tracking, "metric_history", lambda handle, name: told[name])
    handle, names = tracking.RunHandle("uri", "id"), list(told)
    assert _curves([], handle, names)["loss/reconstruction"] == [(8, 2.0)]
    line = {"step": 32, "time": 0, "metrics": {"loss/reconstruction": 1.0}}
    (tmp_path / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    history, problems = _history(Store.open(tmp_path))
    found = _curves(history, handle, names)
    assert found == {"loss/reconstruction": [(32, 1.0)], "loss/flow": [(8, 3.0)]}
    assert problems == []


def test_a_damaged_checkpoint_stops_no_report_and_is_named(writer):
    handle, folder = writer.start("damaged", folder="damaged")
    writer.losses(handle, 0)
    checkpoint = folder / "checkpoints" / f"{8:012d}"
    checkpoint.write("state.json", b'{"images": 8, "hist')
    checkpoint.write("COMMITTED", b"")
    (run,) = collect(writer.uri, "rich", str(writer.storage)).runs
    assert len(run.curves["loss/flow"]) == 12, "as MLflow has them"
    assert any("its history cannot be read" in problem for problem in run.problems)
