"""The local spool survives kills, and knows what was abandoned."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from unite.cluster.losses import OWN_ERRORS
from unite.storage import Store
from unite.tracking import TrackingError, open_tracker, spool_folder
from unite.tracking.images import encode_image
from unite.tracking.spool import Spool, Target


def steps(spool: Spool, offset: int = 0) -> list[int]:
    return [point.step for point in spool.log.read(offset)]


def test_points_come_back_and_reading_goes_on_at_an_offset(tmp_path):
    spool = Spool(tmp_path)
    spool.log.append({"lr": 0.1, "loss/total": math.nan}, 8)
    spool.log.append({"lr": 0.2}, 16)
    first, second = spool.log.read()
    assert first.metrics["lr"] == 0.1
    assert math.isnan(first.metrics["loss/total"])
    assert list(spool.log.read(first.end)) == [second]
    assert list(spool.log.read(second.end)) == []


def test_runs_of_one_name_in_two_storages_do_not_share_a_spool(tmp_path):
    assert spool_folder(Store.open(tmp_path / "run")) == tmp_path / "run" / "tracking"
    here, there = (spool_folder(Store.open(f"s3://{bucket}/run")) for bucket in ("a", "b"))
    assert here.parent == there.parent and here != there
    assert here.name.startswith("run-")


def test_a_home_that_cannot_be_written_is_named_and_is_no_lost_worker(tmp_path, monkeypatch):
    """As in a container whose user has no home of its own: a restart would only repeat it."""
    (tmp_path / "home").write_text("")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(TrackingError, match=r"kept in .*/home/\.cache/.*set HOME") as caught:
        open_tracker(None, spool=spool_folder(Store.open("s3://bucket/run")))
    assert isinstance(caught.value, OWN_ERRORS)


def test_a_torn_last_line_is_not_read_and_is_repaired(tmp_path):
    spool = Spool(tmp_path)
    spool.log.append({"lr": 0.1}, 8)
    with spool.points_file.open("a") as file:
        file.write('{"step": 16, "ti')
    assert steps(spool) == [8]
    again = Spool(tmp_path)
    again.repair()
    again.log.append({"lr": 0.3}, 24)
    assert steps(again) == [8, 24]


def test_an_unreadable_line_costs_only_itself(tmp_path):
    spool = Spool(tmp_path)
    spool.log.append({"lr": 0.1}, 8)
    with spool.points_file.open("a") as file:
        file.write("not json\n[]\n")
    spool.log.append({"lr": 0.2}, 16)
    assert steps(spool) == [8, 16]


def test_resuming_drops_what_lies_beyond_the_checkpoint(tmp_path, gradient):
    spool = Spool(tmp_path)
    for step in (8, 16, 24):
        spool.log.append({"lr": 0.1}, step)
        for name, data in encode_image("samples", gradient, step, 1).items():
            spool.put_file(name, data)
    spool.repair(16)
    assert steps(spool) == [8, 16]
    assert not any("+24+" in path.name for path in spool.files())
    assert len(spool.files()) == 4


def test_repair_without_a_checkpoint_keeps_everything(tmp_path):
    spool = Spool(tmp_path)
    spool.log.append({"lr": 0.1}, 8)
    before = spool.points_file.read_bytes()
    spool.repair()
    assert spool.points_file.read_bytes() == before


def test_files_are_queued_oldest_first_and_a_name_once(tmp_path):
    spool = Spool(tmp_path)
    spool.put_file("b/card.json", b"1")
    spool.put_file("a.txt", b"2")
    (tmp_path / "files" / ".c.json.0123abcd.tmp").write_text("half writ")
    assert [spool.name_of(path) for path in spool.files()] == ["b/card.json", "a.txt"]
    spool.put_file("b/card.json", b"3")
    assert [spool.name_of(path) for path in spool.files()] == ["a.txt", "b/card.json"]
    assert spool.files()[1].read_bytes() == b"3"


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../b", "a//b"])
def test_artifact_names_stay_inside_the_run(tmp_path, name):
    with pytest.raises(ValueError, match="relative path"):
        Spool(tmp_path).put_file(name, b"")


def test_the_target_is_remembered(tmp_path, handle):
    with pytest.raises(TrackingError, match="tracking off"):
        Spool(tmp_path).target()
    Spool(tmp_path).aim(Target(handle, tags={"suite": "generation"}))
    Spool(tmp_path).note_status("FAILED")
    target = Spool(tmp_path).target()
    assert target.run == handle
    assert target.status == "FAILED"
    assert target.tags == {"suite": "generation"}


def test_points_of_a_run_lie_in_its_folder_and_older_ones_move_there(tmp_path):
    run = tmp_path / "run"
    (run / "tracking").mkdir(parents=True)
    (run / "config.json").write_text("{}")
    old = b'{"step": 1, "time": 1, "metrics": {"lr": 0.5}}\n'
    (run / "tracking" / "metrics.jsonl").write_bytes(old)
    spool = Spool(run / "tracking")
    assert spool.points_file == run / "metrics.jsonl" and spool.points_file.read_bytes() == old
    assert not (run / "tracking" / "metrics.jsonl").exists()
    assert Spool.of_points(spool.points_file).folder == run / "tracking"
    assert Spool(tmp_path / "parcel").points_file == tmp_path / "parcel" / "metrics.jsonl"


def test_a_file_that_was_sent_while_the_files_are_listed_is_left_out(tmp_path, monkeypatch):
    """A push beside the training ended the thread that sends."""
    spool = Spool(tmp_path)
    for name in ("a.txt", "b.txt"):
        spool.put_file(name, b"1")
    is_file = Path.is_file

    def then_gone(path: Path) -> bool:
        there = is_file(path)
        if path.name == "a.txt":
            path.unlink(missing_ok=True)
        return there

    monkeypatch.setattr(Path, "is_file", then_gone)
    assert [spool.name_of(path) for path in spool.files()] == ["b.txt"]
