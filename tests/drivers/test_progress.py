"""The progress line and its words."""

import threading
from types import SimpleNamespace

import pytest

from unite import terminal
from unite.drivers import progress
from unite.drivers.progress import Meter, follow_run, progress_line, waiting
from unite.storage import Store


class Job:
    """A piece of work of ten samples."""

    def __init__(self, cost=10.0, samples=10):
        self.cost, self.chunk = cost, range(samples or 1)
        self.task = SimpleNamespace(counts_samples=samples > 0)


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


def test_what_measures_no_samples_adds_none(now):
    meter = Meter("evaluating", [Job(), Job(cost=1.0, samples=0)])
    now[0] += 5
    assert [meter.add(work) for work in (Job(), Job(samples=0))][-1].startswith(
        "evaluating: 10/10 samples  2.0"
    )
    fit = Meter("fitting", [Job(samples=0)])
    now[0] += 15
    assert fit.add(Job(samples=0)) == "fitting: 0:15"


def test_work_that_counts_nothing_is_told_once_it_lasts(monkeypatch):
    told = []
    monkeypatch.setattr(terminal, "tell", told.append)
    with waiting("a moment"):
        pass
    late = threading.Event()
    monkeypatch.setattr(progress, "PLAIN_SECONDS", 0.0)
    monkeypatch.setattr(terminal, "tell", lambda text: (told.append(text), late.set()))
    with waiting("fitting"):
        assert late.wait(10)
    assert told == ["fitting ..."]


def test_where_there_is_no_terminal_a_line_comes_every_ten_seconds(now, monkeypatch):
    told = []
    monkeypatch.setattr(terminal, "tell", told.append)
    with progress_line("starting", 4) as show:
        for done, later in enumerate((5, 5, 10, 20), start=1):
            now[0] += later
            show(f"{done} of 4", done)
    assert told == ["2 of 4", "3 of 4"], "the last line is told by who counts"


def test_a_run_is_followed_whatever_the_clock_of_its_workers_says(tmp_path, monkeypatch):
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.01)
    folder, told = Store.open(tmp_path), []
    begun, ready = threading.Event(), threading.Event()
    earlier = {"state": "stopped", "time": 4e9, "images": 64, "workers": 7}
    folder.write_json("progress.json", earlier)

    def phase(text: str) -> None:
        told.append(text)
        (ready if "ready" in text else begun).set()

    def work() -> None:
        assert begun.wait(30)
        folder.write_json("progress.json", {**earlier, "time": 5.0, "workers": 2})
        ready.wait(30)

    monkeypatch.setattr(terminal, "phase", phase)
    thread = threading.Thread(target=work)
    thread.start()
    follow_run(
        SimpleNamespace(folder=folder, config=SimpleNamespace(storage=str(tmp_path))), thread
    )
    assert told[1:] == ["2 workers ready"]
