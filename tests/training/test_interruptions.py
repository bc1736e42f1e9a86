"""Interruptions of a run: their measure, their file, and what is told of them."""

from __future__ import annotations

import time

from unite.storage import Store
from unite.training.interruptions import (
    FILE,
    PRESENT,
    Interruption,
    in_words,
    note_ended,
    note_left_behind,
    note_resumed,
    present,
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
    note_ended(run, "lost")
    assert present(run) is None
    published(run, "training", 640, 100.0)
    note_ended(run, "lost")
    assert present(run) == Interruption(reason="lost", time=100.0, seen=640)


def test_a_group_that_makes_no_step_prolongs_the_interruption_before_it(tmp_path):
    run = Store.open(tmp_path)
    published(run, "training", 640, 100.0)
    note_ended(run, "left")
    note_ended(run, "lost")
    assert present(run).reason == "left"
    published(run, "training", 700, 160.0)
    note_ended(run, "lost")
    assert (present(run).reason, present(run).seen) == ("lost", 700)


def test_only_a_run_that_neither_ended_nor_was_stopped_was_left_behind(tmp_path):
    run = Store.open(tmp_path)
    note_left_behind(run)
    assert present(run) is None
    published(run, "training", 640, 100.0)
    note_left_behind(run)
    found = present(run)
    assert (found.reason, found.seen) == ("driver", 640)
    assert time.time() - found.time < 60, "the user's own time does not count"
    for state in ("done", "stopped"):
        published(run, state, 640, 100.0)
        note_left_behind(run)
        assert present(run) is None, "nor is what an earlier driver left"


def test_sums_go_on_over_the_whole_run(tmp_path):
    run, log, now = Store.open(tmp_path), Log(), time.time()
    published(run, "training", 640, now - 30)
    note_ended(run, "lost")
    note_resumed(Interruption(reason="lost", time=now - 30, seen=640), run, log, 512, 544)
    note_resumed(Interruption(reason="left", time=now - 10, seen=900), run, log, 900, 932)
    assert log.step == 932
    assert present(run) is None, "it is over"
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
        run.write(PRESENT, damaged)
        assert read_interruptions(run) == [] and present(run) is None
    note_resumed(Interruption(reason="lost", time=0.0, seen=640), run, log, 512, 544)
    assert len(read_interruptions(run)) == 1
