"""Groups that follow the cluster: the size that is taken, the words for it, and growing."""

from __future__ import annotations

import itertools

import pytest

from unite.cluster import elastic
from unite.cluster.connect import CapacityError
from unite.cluster.elastic import RoomWatch, next_group, size_in_words
from unite.cluster.resources import WorkerGroup
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.training.requests import Request

RANGE = replace(recipe("smoke"), {"cluster.num_workers": "2..8", "cluster.cpus_per_worker": 1.0})


def node(cpus: float) -> dict[str, float]:
    return {"CPU": cpus, "GPU": 0.0}


def group(workers: int) -> WorkerGroup:
    return WorkerGroup(num_workers=workers, cpus_per_worker=1.0, use_gpu=False)


@pytest.fixture
def clock(monkeypatch, turned_clock):
    """Time that passes by sleeping alone."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    turned_clock(elastic, monotonic=lambda: now[0], sleep=sleep)
    return now


def cluster(monkeypatch, have: list[dict[str, float]], *seen: list[dict[str, float]]) -> None:
    """All that the nodes have, and what is free, look by look; the last stays."""
    looks = itertools.chain(seen, itertools.repeat(seen[-1]))
    monkeypatch.setattr(
        elastic, "nodes", lambda free=False, answering=True: next(looks) if free else have
    )


def test_the_largest_group_that_fits_and_divides_the_batch_is_taken(monkeypatch, clock):
    cluster(monkeypatch, [node(9.0)], [node(4.0), node(3.0)])
    assert next_group(RANGE, 100.0).num_workers == 4
    assert clock[0] >= elastic.SETTLE_SECONDS, "more may come free"


def test_all_that_a_small_cluster_holds_is_taken_at_once(monkeypatch, clock):
    cluster(monkeypatch, [node(4.0), node(3.0)], [node(4.0), node(3.0)])
    assert next_group(RANGE, 100.0).num_workers == 4
    assert clock[0] == 0.0, "nothing more can come free"


def test_a_whole_range_is_taken_at_once(monkeypatch, clock, caplog, capsys):
    cluster(monkeypatch, [node(20.0)], [node(9.0)])
    assert next_group(RANGE, 100.0).num_workers == 8
    assert clock[0] == 0.0
    assert capsys.readouterr().err.endswith("8 workers of 2..8\n")
    assert not caplog.records, "nothing is wrong"


def test_an_ended_group_comes_free_a_moment_later(monkeypatch, clock):
    cluster(monkeypatch, [node(9.0)], [node(3.0)], [node(3.0)], [node(9.0)])
    assert next_group(RANGE, 100.0).num_workers == 8


def test_a_node_that_goes_between_two_looks_is_not_waited_for(monkeypatch, clock):
    cluster(monkeypatch, [node(1.0)], [node(3.0)])
    assert next_group(RANGE, 100.0).num_workers == 2
    assert clock[0] == 0.0


def test_it_waits_for_the_smallest_and_then_gives_up(monkeypatch, clock):
    cluster(monkeypatch, [node(3.0)], *[[node(1.0)]] * 50, [node(3.0)])
    assert next_group(RANGE, 100.0).num_workers == 2
    cluster(monkeypatch, [node(3.0)], [node(1.0)])
    with pytest.raises(CapacityError, match="2 workers at 1 CPU each"):
        next_group(RANGE, 20.0)


def test_a_size_that_does_not_divide_the_batch_is_said():
    free = [node(4.0), node(3.0)]
    said = size_in_words(RANGE.cluster, group(4), free, 32)
    assert said == (
        "4 workers of 2..8: there is room for 7, but only numbers that divide the batch of 32 are "
        "taken"
    )
    assert size_in_words(RANGE.cluster, group(8), [node(20.0)], 32) == "8 workers of 2..8"
    # Eight would fit, were it not for Ray Data beside them.
    assert size_in_words(RANGE.cluster, group(4), [node(8.0)], 32) == "4 workers of 2..8"


def test_room_is_asked_for_once_the_next_size_fits_beside_the_group(monkeypatch):
    monkeypatch.setattr(elastic, "ROOM_POLL_SECONDS", 0.001)
    looks = itertools.chain([[node(1.0)], [node(4.0)]], itertools.repeat([node(3.0), node(2.0)]))
    watch = RoomWatch(RANGE, group(4), lambda: next(looks))
    # Four CPUs more hold the workers, but not Ray Data beside them: no other group would start.
    sizes = [watch.larger([node(cpus)]) for cpus in (0.5, 3.9, 4.0, 4.5, 20.0)]
    assert sizes == [0, 0, 0, 8, 8]
    while not watch.found:
        pass
    assert watch() is Request.MAKE_ROOM and watch.found == 8


def test_a_group_that_cannot_grow_looks_for_nothing():
    def look():
        raise AssertionError("nothing is to be looked for")

    assert RoomWatch(RANGE, group(8), look)() is Request.NONE
    assert RoomWatch(recipe("smoke"), group(1), look)() is Request.NONE


def test_others_may_leave_a_group_without_room_and_that_is_no_fault():
    narrow = replace(RANGE, {"cluster.num_workers": "1..2", "cluster.cpus_per_worker": 1.5})
    one = WorkerGroup(num_workers=1, cpus_per_worker=1.5, use_gpu=False)
    watch = RoomWatch(narrow, one)
    # Others hold 0.25 of what is kept for Ray Data: the group itself would not start so.
    assert watch.larger([node(0.25)]) == 0
    assert watch.larger([node(0.25), node(2.0)]) == 2
