"""What may be asked of a running training, and how notices are answered, without a cluster."""

from __future__ import annotations

import gc
import threading

from unite.storage import Store
from unite.training.requests import (
    SPARE_SECONDS,
    Interval,
    Notice,
    NoticeWatch,
    Request,
    StopWatch,
    joined,
    no_notice,
    nothing,
)
from unite.training.runs import request_stop


class Clock:
    """Seconds that pass only when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def watch(notices: list[Notice | None], clock: Clock, saving: float = 0.0) -> NoticeWatch:
    """A watch that sees the last of `notices`."""
    return NoticeWatch(lambda: notices[-1], lambda: saving, clock)


def notice(deadline: float, *nodes: str) -> Notice:
    return Notice(deadline=deadline, nodes=frozenset(nodes or ("a",)))


def test_a_notice_makes_one_save_at_once_and_the_group_leaves_before_the_deadline(caplog):
    clock = Clock()
    seen: list[Notice | None] = [None]
    asked = watch(seen, clock)
    assert asked() is Request.NONE
    seen.append(notice(1020.0))
    assert asked() is Request.SAVE
    (told,) = caplog.messages
    assert told.startswith("a node goes away in 20 s: the run saves now")
    answers = []
    while Request.LEAVE not in answers:
        clock.seconds += 1
        answers.append(asked())
    assert set(answers[:-1]) == {Request.NONE}
    # Two steps of a second each, and what is always kept.
    assert 1020 - clock.seconds == SPARE_SECONDS + 2


def test_the_group_leaves_earlier_where_steps_and_saves_are_slow():
    clock = Clock()
    seen: list[Notice | None] = [None]
    asked = watch(seen, clock, saving=20.0)
    clock.seconds += 10
    asked()
    seen.append(notice(clock.seconds + SPARE_SECONDS + 2 * (10 + 20)))
    assert asked() is Request.LEAVE
    seen[-1] = notice(clock.seconds + SPARE_SECONDS + 2 * (10 + 20) + 1)
    assert asked() is Request.SAVE


def test_a_second_node_is_another_notice_and_the_same_one_is_not():
    clock = Clock()
    seen: list[Notice | None] = [notice(2000.0, "a")]
    asked = watch(seen, clock)
    assert asked() is Request.SAVE
    seen.append(notice(1999.0, "a"))
    assert asked() is Request.NONE
    seen.append(notice(1999.0, "a", "b"))
    assert asked() is Request.SAVE
    assert asked() is Request.NONE


def test_a_notice_without_a_time_makes_the_group_leave_at_once():
    assert watch([notice(0.0)], Clock())() is Request.LEAVE


def test_no_notice_asks_for_nothing():
    assert NoticeWatch(no_notice, lambda: 0.0)() is Request.NONE


def test_so_many_minutes_after_a_save_another_is_asked_for():
    clock, saved = Clock(), [1000.0]
    asked = Interval(10.0, lambda: saved[-1], clock)
    assert asked() is Request.NONE
    clock.seconds += 600
    assert asked() is Request.SAVE
    saved.append(clock.seconds)
    assert asked() is Request.NONE
    clock.seconds += 1e9
    assert Interval(0.0, lambda: 0.0, clock)() is Request.NONE


def test_requests_join():
    both = joined(lambda: Request.SAVE, nothing, lambda: Request.STOP)
    assert both() == Request.SAVE | Request.STOP
    assert joined()() is Request.NONE


def started(folder: Store, owner: str) -> tuple[StopWatch, threading.Thread]:
    before = set(threading.enumerate())
    watch = StopWatch(folder, owner)
    (thread,) = set(threading.enumerate()) - before
    return watch, thread


def test_a_stop_in_the_folder_is_seen_by_a_thread_that_holds_nobody_up(tmp_path, monkeypatch):
    monkeypatch.setattr("unite.training.requests.STOP_POLL_SECONDS", 0.001)
    folder = Store.open(tmp_path)
    watch, thread = started(folder, "mine")
    other, _ = started(folder, "another's")
    assert thread.daemon and watch() == Request.NONE
    request_stop(folder, "mine")
    thread.join(60)
    assert watch() == Request.STOP and other() == Request.NONE


def test_a_watch_that_nobody_keeps_looks_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("unite.training.requests.STOP_POLL_SECONDS", 0.001)
    watch, thread = started(Store.open(tmp_path), "")
    assert watch() == Request.NONE
    del watch
    gc.collect()
    thread.join(60)
    assert not thread.is_alive()
