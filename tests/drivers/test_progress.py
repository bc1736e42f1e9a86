"""The progress line and its words."""

import pytest

from unite import terminal
from unite.drivers import progress
from unite.drivers.progress import Meter, progress_line
from unite.evaluation.chunks import Chunk


class Job:
    """A piece of work of ten samples."""

    chunk = Chunk(label="work", index=0, count=4, total=40)

    def __init__(self, cost=10.0):
        self.cost = cost


@pytest.fixture
def now(turned_clock):
    time = [100.0]
    turned_clock(progress, monotonic=lambda: time[0])
    return time


def test_a_meter_tells_samples_rate_and_the_time_left_of_the_costs(now):
    works = [Job(), Job(), Job(), Job(cost=60.0)]
    meter = Meter("evaluating", works)
    assert meter.describe() == "evaluating: 0/40 samples  0:00"
    now[0] += 5
    assert meter.add(works[0]) == "evaluating: 10/40 samples  2.0 samples/s  ETA 0:40"
    now[0] += 95
    assert [meter.add(work) for work in works[1:]][-1] == (
        "evaluating: 40/40 samples  0.4 samples/s  1:40"
    )


def test_where_there_is_no_terminal_a_line_comes_every_ten_seconds(now, monkeypatch):
    told = []
    monkeypatch.setattr(terminal, "tell", told.append)
    with progress_line("starting", 4) as show:
        for done, later in enumerate((5, 5, 10, 20), start=1):
            now[0] += later
            show(f"{done} of 4", done)
    assert told == ["2 of 4", "3 of 4"], "the last line is told by who counts"
