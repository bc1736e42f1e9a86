"""Work in this process, where a run is too small for workers, and on workers of two kinds."""

from types import SimpleNamespace

import pytest

import unite.drivers.session as session_module
from unite import network
from unite.drivers.session import AWAY_S, InProcess, Workers, compute
from unite.evaluation.arguments import EvaluateArguments
from unite.storage import StorageError
from unite.training.watchdog import FLOOR_SECONDS


def test_this_process_does_the_work_in_order_with_one_worker():
    done, made, told = [], [], []
    here = InProcess(lambda: made.append(1) or done.append)
    here.run([3, 1, 2], told.append)
    here.run([4], told.append)
    assert done == told == [3, 1, 2, 4]
    assert made == [1]
    here.close()
    here.run([5], told.append)
    assert made == [1, 1]


@pytest.fixture
def told(monkeypatch) -> list[tuple[str, object]]:
    """Acts of pools, `gpu` or `cpu`, in order."""
    acts = []

    class Recorder:
        def __init__(self, make_worker, asked, *, kind):
            self.name = "gpu" if asked.use_gpu else "cpu"
            acts.append((self.name, asked.num_workers))

        def run(self, items, on_done):
            acts.append((self.name, [item.name for item in items]))

        def close(self):
            acts.append((self.name, "end"))

    monkeypatch.setattr(session_module, "Pool", Recorder)
    return acts


def item(name: str, *, on_cpu: bool) -> SimpleNamespace:
    return SimpleNamespace(name=name, task=SimpleNamespace(on_cpu=on_cpu))


WORK = [item("judge", on_cpu=True), item("draw", on_cpu=False), item("count", on_cpu=True)]


def test_beside_gpus_work_without_a_model_has_the_cpus(told):
    workers = Workers(EvaluateArguments(use_gpu=True, num_workers=1))
    workers.run(WORK, lambda done: None)
    made, drawn, judged = told[:2], told[2:4], told[4:]
    assert made == [("gpu", 1), ("cpu", None)]
    assert drawn == [("cpu", "end"), ("gpu", ["draw"])]
    assert judged == [("gpu", "end"), ("cpu", ["judge", "count"])]
    del told[:]
    workers.close()
    assert told == [("gpu", "end"), ("cpu", "end")]


def test_without_gpus_one_kind_does_all(told):
    workers = Workers(EvaluateArguments(num_workers=3))
    workers.run(WORK, lambda done: None)
    assert told == [("cpu", 3), ("cpu", ["judge", "draw", "count"])]


class Chunk:
    """An item whose result a storage refuses at first."""

    def __init__(self, *errors: str) -> None:
        self.errors, self.computed = list(errors), 0

    def compute(self, instruments: object) -> None:
        self.computed += 1
        if self.errors:
            raise StorageError(self.errors.pop(0))


def test_a_store_that_is_overloaded_ends_no_evaluation(turned_clock):
    turned_clock(network, sleep=lambda seconds: None)
    busy = "cannot write s3://b/x.npz: An error occurred (SlowDown) when calling PutObject"
    item = Chunk(busy, busy)
    compute(None, item)
    assert item.computed == 3
    refused = Chunk("cannot write s3://b/x.npz: An error occurred (AccessDenied)")
    with pytest.raises(StorageError, match="AccessDenied"):
        compute(None, refused)
    assert refused.computed == 1
    assert AWAY_S < FLOOR_SECONDS, "who waits is not taken for one that hangs"
