"""Killed workers and killed drivers: every index is counted exactly once all the same."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from trainers import trained
from unite.cluster.pool import Pool
from unite.config.recipes import recipe
from unite.config.serialise import replace as replace_fields
from unite.data.ingest.digits import prepare_digits
from unite.drivers.evaluate import evaluate
from unite.drivers.session import make_worker
from unite.evaluation.arguments import EvaluateArguments, WorkerArguments
from unite.evaluation.chunks import partition
from unite.evaluation.request import open_evaluation
from unite.evaluation.suite import read_chunks, work_items
from unite.storage import Store

pytestmark = [pytest.mark.fault, pytest.mark.slow]
SAMPLES = 640
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    """A storage folder with the digits and a run of two steps."""
    place = tmp_path_factory.mktemp("storage")
    prepare_digits(Store.open(place / "data" / "digits"))
    changes = {"storage": str(place), "name": "tiny", "training.epochs": 2 * 32 / 1500}
    trained(replace_fields(recipe("smoke"), changes))
    return place


def arguments(storage, **changes):
    settings = {
        "run": "tiny",
        "storage": str(storage),
        "suite": ("generation",),
        "num_samples": SAMPLES,
        "num_steps": 10,
        "extractor": ("pixels",),
        "num_workers": 0,
        "track": False,
    }
    return EvaluateArguments(**{**settings, **changes})


@pytest.fixture
def generation(storage):
    """The generation task under a seed of one's own, so that nothing of it is finished."""
    made = iter(range(1_000))

    def make():
        chosen = arguments(storage, seed=time.time_ns() % 10**6 + next(made))
        (suite,) = open_evaluation(chosen, str(storage)).suites

        def run(title, items):
            worker = make_worker(False, 64)
            for item in items:
                worker(item)

        return suite.prepared(run)

    return make


def in_this_process(suite, home):
    """The same task elsewhere, computed without any fault."""
    clean = replace(suite, home=str(home))
    worker = make_worker(False, 250)
    for work in work_items(clean):
        worker(work)
    return read_chunks(clean)


def assert_same(chunks, expected):
    for ours, theirs in zip(chunks, expected, strict=True):
        assert set(ours) == set(theirs)
        for name in set(ours) - {"seconds"}:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


@pytest.mark.ray
def test_killed_workers_change_nothing(ray_cluster, generation, tmp_path):
    """Two workers; after the first and the fifth chunk one of those alive is killed with -9."""
    suite = generation()
    pids = tmp_path / "pids"
    pids.mkdir()

    def make(folder):
        with open(f"{folder}/{os.getpid()}", "w"):
            return make_worker(False, 250)

    done = []

    def kill_now_and_then(work):
        done.append(work.chunk)
        if len(done) in (1, 5):
            alive = sorted(int(p.name) for p in pids.iterdir())
            os.kill(alive[0], signal.SIGKILL)
            (pids / str(alive[0])).unlink()

    pool = Pool(partial(make, str(pids)), WorkerArguments(num_workers=2))
    try:
        pool.run(work_items(suite), kill_now_and_then)
    finally:
        pool.close()
    assert sorted(done) == sorted(suite.chunks())
    chunks = list(read_chunks(suite))
    indices = np.concatenate([chunk["fake/0/indices"] for chunk in chunks])
    np.testing.assert_array_equal(np.sort(indices), np.arange(SAMPLES))
    assert_same(chunks, in_this_process(suite, tmp_path / "clean"))
    assert suite.combine(chunks).rows[0].card.num_samples == SAMPLES


@pytest.mark.ray
def test_three_workers_give_the_bits_of_one(ray_cluster, generation, tmp_path):
    """One is this process, two are those of the test above."""
    suite = generation()
    pool = Pool(partial(make_worker, False, 250), WorkerArguments(num_workers=3))
    try:
        pool.run(work_items(suite), lambda work: None)
    finally:
        pool.close()
    assert_same(read_chunks(suite), in_this_process(suite, tmp_path / "alone"))


def kept_chunks(storage):
    """Generation chunks of any evaluation so far."""
    return set(storage.glob("tiny/evaluations/*/generation-*/chunks/*.npz"))


@pytest.mark.ray
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGINT])
def test_a_driver_that_is_ended_loses_the_chunks_in_flight_alone(ray_cluster, storage, end):
    """The command itself with two Ray workers, killed with -9 or stopped with Ctrl-C in the middle;
    the same command finishes the rest."""
    seed = time.time_ns() % 10**6
    command = [
        *(sys.executable, str(ROOT / "jobs" / "evaluate.py"), "--run", "tiny"),
        *("--storage", str(storage), "--suite", "generation", "--extractor", "pixels"),
        *("--num-samples", str(SAMPLES), "--num-steps", "10", "--num-workers", "2"),
        *("--seed", str(seed), "--no-track"),
    ]
    before = kept_chunks(storage)
    address = ray_cluster.get_runtime_context().gcs_address
    driver = subprocess.Popen(
        command,
        env={**os.environ, "RAY_ADDRESS": address},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while len(kept_chunks(storage) - before) < 3:
        assert driver.poll() is None, driver.stderr.read()
        time.sleep(0.01)
    driver.send_signal(end)
    said = " ".join("".join(driver.communicate(timeout=60)).split())
    if end == signal.SIGINT:
        assert driver.returncode == 130
        assert "the same command goes on from there" in said
    time.sleep(1.0)  # its workers end with it, at the latest when they have nothing to do
    kept = kept_chunks(storage) - before
    total = len(partition("generation", SAMPLES))
    assert 3 <= len(kept) < total
    times = {path: path.stat().st_mtime_ns for path in kept}
    (outcome,) = evaluate(open_evaluation(arguments(storage, seed=seed), ""))
    assert {path: path.stat().st_mtime_ns for path in kept} == times
    (folder,) = {path.parent for path in kept}
    assert len(list(folder.glob("*.npz"))) == total
    assert not list(folder.glob(".*tmp"))
    assert outcome.rows[0].card.num_samples == SAMPLES
