"""A rank that hangs: its deadline, what it was doing, and what is told of it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback
from types import SimpleNamespace

import pytest
import torch

from unite.storage import Store
from unite.training import watchdog
from unite.training.exchange import GradientExchange
from unite.training.parallelize import World
from unite.training.shares import gathered
from unite.training.watchdog import (
    COMPUTING,
    FLOOR_SECONDS,
    Watchdog,
    doing,
    hang_told,
    node_of,
    note_nodes,
)


class Steps:
    """A training whose time and images are told to it."""

    def __init__(self) -> None:
        self.seconds, self.images = 0.0, 0
        self.dog = Watchdog(lambda: self.images, lambda: self.seconds)

    def step(self, seconds: float) -> float:
        self.seconds += seconds
        self.images += 32
        return self.dog.late()


def test_the_deadline_follows_from_the_runs_own_steps():
    run = Steps()
    run.seconds += 1e6
    assert run.dog.late() == 0.0, "a first step compiles for as long as it likes"
    for _ in range(50):
        assert run.step(1.0) == 0.0
    assert run.dog.deadline == FLOOR_SECONDS
    run.step(1e6)  # an evaluation
    assert run.dog.deadline == FLOOR_SECONDS
    for _ in range(50):
        run.step(40.0)
    assert run.dog.deadline == 800.0
    run.seconds += 800.0
    assert run.dog.late() == 0.0
    run.seconds += 1.0
    assert run.dog.late() == 801.0
    assert run.step(0.0) == 0.0, "it went on"


def test_a_rank_waits_for_others_for_twice_the_longest_step_at_least():
    run = Steps()
    assert run.dog.patience == float("inf")
    for _ in range(10):
        run.step(1.0)
    assert run.dog.patience == FLOOR_SECONDS
    run.step(1000.0)  # an evaluation, at which the others arrive later
    run.step(1.0)
    assert run.dog.patience == 2000.0


def test_the_node_of_a_rank_is_known_to_the_driver(tmp_path):
    run = Store.open(tmp_path)
    assert node_of(run, 0) == "", "of an earlier version, or never begun"
    note_nodes(run, ["left", "right"])
    assert (node_of(run, 1), node_of(run, 2)) == ("right", "")
    (tmp_path / "hangs" / "ranks.json").write_text("{")
    assert node_of(run, 1) == ""


@pytest.mark.parametrize(
    ("functions", "words"),
    [
        (["run", "train_step", "_turn", "_accumulate", "backward"], COMPUTING),
        (["run", "train_step", "_turn", "average_", "all_reduce"], "waiting for the other ranks"),
        (["run", "train_step", "_turn", "settle", "_require_insured"], "waiting for room"),
        (["run", "train_step", "read", "settle", "synchronize"], "waiting for its device"),
        (["run", "_evaluate", "evaluate_reconstruction", "gather"], "waiting for the other ranks"),
        (["run", "_evaluate", "sample_grid"], "evaluating"),
        (["run", "__next__", "result"], "waiting for data"),
        (["run"], "outside a step"),
    ],
)
def test_what_a_rank_does_is_known_by_its_functions(functions, words):
    assert doing(functions).startswith(words)


def test_a_rank_waits_for_others_in_every_exchange(monkeypatch):
    """Told by the stack in which it waits: it would end itself for a computation that hangs."""
    found = []

    def waits(*given, **named):
        found.append(doing([frame.name for frame in traceback.extract_stack()]))
        return SimpleNamespace(wait=lambda: waits())

    def train_step():
        exchange.expect()
        parameter.sum().backward()
        exchange.finish()
        world.average_([torch.ones(1)])
        world.gather(1)
        gathered({0: torch.zeros(1, 2, 2)}, [(1, 2, 2)], [0], 0, 2, torch.device("cpu"))

    for name in ("all_reduce", "all_gather_object", "all_gather_into_tensor"):
        monkeypatch.setattr(torch.distributed, name, waits)
    parameter, world = torch.nn.Parameter(torch.ones(2)), World(size=2)
    exchange = GradientExchange([parameter], world)
    train_step()
    sent, *waited = found
    assert sent == COMPUTING, "what is sent is not waited for"
    assert waited == 4 * ["waiting for the other ranks"]


def test_a_rank_that_waits_tells_once_and_goes_on(tmp_path, caplog):
    inside, release, run, steps = (
        threading.Event(),
        threading.Event(),
        Store.open(tmp_path),
        Steps(),
    )

    def average_() -> None:
        inside.set()
        assert release.wait(60)

    for _ in range(10):
        steps.step(1.0)
    thread = threading.Thread(target=average_)
    thread.start()
    assert inside.wait(60)
    for _ in range(2):
        watchdog._tell(run, 3, thread.ident, steps.dog, 75.0, lambda: False)
    release.set()
    thread.join()
    assert caplog.text.count("has been 1:15 in the step after 320 images") == 1
    report = run.read("hangs/rank-3.txt").decode()
    assert report.startswith("rank 3 on ") and "in average_" in report
    assert "waiting for the other ranks" in report
    assert hang_told(run) == "", "it is not what hangs"


def test_a_rank_whose_device_waits_for_others_does_not_end_itself(tmp_path, monkeypatch, caplog):
    """On a GPU the collectives wait on the device, and the rank in any launch or upload that finds
    its queue full: while rank 0 waits 15 minutes for storage, the others stand in the middle of
    their next step."""
    ended, inside, release = [], threading.Event(), threading.Event()
    monkeypatch.setattr(os, "_exit", ended.append)

    def train_step() -> None:
        inside.set()
        while not release.is_set():
            time.sleep(0.01)

    thread, steps = threading.Thread(target=train_step), Steps()
    for _ in range(10):
        steps.step(1.0)
    thread.start()
    assert inside.wait(60)
    queued = SimpleNamespace(query=lambda: False)
    monkeypatch.setattr(torch.cuda, "default_stream", lambda device: queued)
    world, run = World(device=torch.device("cuda", 0)), Store.open(tmp_path)
    try:
        watchdog._tell(run, 1, thread.ident, steps.dog, 301.0, world.is_busy)
        assert not ended and hang_told(run) == "", "another rank is to blame"
        assert "limit by its own steps: waiting for its device" in caplog.text
        queued.query = lambda: True
        watchdog._tell(run, 1, thread.ident, steps.dog, 302.0, world.is_busy)
    finally:
        release.set()
        thread.join()
    assert ended == [watchdog.EXIT_CODE], "the device has done all that it was given"
    assert hang_told(run).startswith("rank 1 on ")


def test_a_device_that_cannot_be_asked_is_not_busy(monkeypatch):
    def broken(device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "default_stream", broken)
    assert not World(device=torch.device("cuda", 0)).is_busy()
    assert not World().is_busy()


HANGS = """
import time
from unite.storage import Store
from unite.training import watchdog
watchdog.POLL_SECONDS, watchdog.FLOOR_SECONDS, watchdog.FACTOR = 0.01, 0.5, 0.0
images = [0]
def train_step():
    time.sleep(600)
with watchdog.watched(Store.open({place!r}), 1, lambda: images[0]):
    for _ in range(watchdog.MEASURED_STEPS + 2):
        images[0] += 32
        time.sleep(0.1)
    train_step()
"""


def test_a_rank_that_hangs_ends_itself_and_names_rank_node_and_stack(root, tmp_path):
    script = HANGS.format(place=str(tmp_path))
    environment = {**os.environ, "PYTHONPATH": str(root / "platform")}
    done = subprocess.run([sys.executable, "-c", script], env=environment, timeout=120)
    assert done.returncode == watchdog.EXIT_CODE
    run = Store.open(tmp_path)
    assert "in train_step" in run.read("hangs/rank-1.txt").decode()
    said = hang_told(run)
    assert said.startswith("rank 1 on ") and "after 224 images" in said and "hangs" in said
    assert hang_told(run) == "", "told once"


SILENT = """
import ctypes, time
from unite.storage import Store
from unite.training import watchdog
watchdog.POLL_SECONDS, watchdog.SILENT_SECONDS = 0.01, 1.0
with watchdog.watched(Store.open({place!r}), 1, lambda: 0):
    time.sleep({pause})
    def train_step():
        ctypes.PyDLL(None).sleep(600)  # with the interpreter's lock held
    if {silent}:
        train_step()
time.sleep(1.5)
"""


@pytest.mark.parametrize("silent", [True, False])
def test_a_process_in_which_no_python_runs_ends_with_its_stacks(root, tmp_path, silent):
    script = SILENT.format(place=str(tmp_path), pause=0.2 if silent else 1.5, silent=silent)
    environment = {**os.environ, "PYTHONPATH": str(root / "platform")}
    words = [sys.executable, "-c", script]
    done = subprocess.run(words, env=environment, timeout=120, capture_output=True, text=True)
    assert (done.returncode != 0) == silent
    assert ("in train_step" in done.stderr) == silent


WAITS = """
import sys, time, torch, torch.distributed as dist
from unite.training.parallelize import World
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method="file://{place}/meet", rank=rank, world_size=2)
world = World.current(torch.device("cpu"))
world.gather(rank)
if rank:
    time.sleep(600)
world.wait_at_most(1.0)
world.gather(rank)
"""


@pytest.mark.skipif(not hasattr(torch.distributed, "set_timeout"), reason="needs torch 2.15")
def test_a_rank_gives_up_on_one_that_never_comes(root, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(root / "platform")}
    words = [sys.executable, "-c", WAITS.format(place=tmp_path)]
    with subprocess.Popen([*words, "1"], env=environment) as other:
        words = [*words, "0"]
        done = subprocess.run(words, env=environment, timeout=300, capture_output=True, text=True)
        other.kill()
    assert done.returncode != 0 and "timed out" in done.stderr.lower()
