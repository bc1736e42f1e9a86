"""The progress line."""

import io

import pytest
from rich.console import Console

from unite.drivers import meter
from unite.drivers.meter import Meter
from unite.evaluation.chunks import Chunk


class Job:
    """A piece of work of ten samples."""

    chunk = Chunk(label="work", index=0, count=4, total=40)

    def __init__(self, cost=10.0):
        self.cost = cost


@pytest.fixture
def now(monkeypatch):
    time = [100.0]
    monkeypatch.setattr(meter.time, "monotonic", lambda: time[0])
    return time


def test_it_tells_samples_rate_and_the_time_left_of_the_costs(now):
    works = [Job(), Job(), Job(), Job(cost=60.0)]
    console = Console(file=io.StringIO(), record=True, width=200)
    with Meter("evaluating", works, console) as line:
        assert line.describe() == "evaluating: 0/40 samples  0:00"
        now[0] += 5
        line.done(works[0])
        assert line.describe() == "evaluating: 10/40 samples  2.0 images/s  ETA 0:40"
        now[0] += 10
        line.done(works[1])
        now[0] += 10
        line.done(works[2])
        now[0] += 75
        line.done(works[3])
    told = console.export_text().splitlines()
    assert told == [
        "evaluating: 20/40 samples  1.3 images/s  ETA 0:52",
        "evaluating: 30/40 samples  1.2 images/s  ETA 0:50",
        "evaluating: 40/40 samples  0.4 images/s  1:40",
    ], "where there is no terminal, a line every ten seconds"
