"""Interruptions of a run: their measure, their file, and what is told of them."""

from __future__ import annotations

import time

from unite.storage import Store
from unite.training.interruptions import (
    FILE,
    Interruption,
    in_words,
    interrupted,
    left_behind,
    note_resumed,
    read_interruptions,
)


def published(run: Store, state: str, images: int, at: float) -> None:
    run.write_json("progress.json", {"state": state, "images": images, "time": at})


class Log:
    """A tracker that remembers the last metrics."""

    def log(self, metrics, step: int) -> None:
        self.metrics, self.step = metrics, step


def test_what_the_last_group_had_seen_is_read_from_its_progress(tmp_path):
    run = Store.open(tmp_path)
    assert interrupted(run, "lost") is None
    published(run, "training", 640, 100.0)
    assert interrupted(run, "lost") == Interruption(reason="lost", time=100.0, seen=640)


def test_a_group_that_makes_no_step_prolongs_the_interruption_before_it(tmp_path):
    run = Store.open(tmp_path)
    published(run, "training", 640, 100.0)
    first = interrupted(run, "left")
    assert interrupted(run, "lost", first) is first
    published(run, "training", 700, 160.0)
    assert interrupted(run, "lost", first).seen == 700


def test_only_a_run_that_neither_ended_nor_was_stopped_was_left_behind(tmp_path):
    run = Store.open(tmp_path)
    assert left_behind(run) is None
    for state in ("done", "stopped"):
        published(run, state, 640, 100.0)
        assert left_behind(run) is None
    published(run, "training", 640, 100.0)
    found = left_behind(run)
    assert (found.reason, found.seen) == ("driver", 640)
    assert time.time() - found.time < 60, "the user's own time does not count"


def test_sums_go_on_over_the_whole_run(tmp_path):
    run, log, now = Store.open(tmp_path), Log(), time.time()
    note_resumed(Interruption(reason="lost", time=now - 30, seen=640), run, log, 512, 544)
    note_resumed(Interruption(reason="left", time=now - 10, seen=900), run, log, 900, 932)
    assert log.step == 932
    assert log.metrics["interruptions/count"] == 2.0
    assert log.metrics["interruptions/wasted_images"] == 128.0
    assert log.metrics["interruptions/seconds"] >= 40
    known = read_interruptions(run)
    assert [each.wasted for each in known] == [128, 0]
    assert in_words(known, 1280, "image") == (
        "2 interruptions: 128 images computed again (10.00%), 0:40 without a step"
    )
    assert in_words([], 1280, "image") == ""


def test_a_damaged_file_stops_nothing(tmp_path):
    run, log = Store.open(tmp_path), Log()
    for damaged in (b"{", b"3", b'[{"reason": 1}]', b"[3]"):
        run.write(FILE, damaged)
        assert read_interruptions(run) == []
    note_resumed(Interruption(reason="lost", time=0.0, seen=640), run, log, 512, 544)
    assert len(read_interruptions(run)) == 1
