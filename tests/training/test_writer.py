"""Two processes never train one run at the same time."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from unite.storage import Store
from unite.training.writer import BusyError, sole_writer

HOLD = """
import sys, time
from unite.training.writer import sole_writer
from unite.storage import Store
with sole_writer(Store.open(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def run(tmp_path) -> Store:
    return Store.open(tmp_path / "run")


@pytest.fixture
def other(run):
    """Another process that holds the run."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.uri], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_run_that_another_process_trains_is_refused_with_its_name(run, other):
    with pytest.raises(BusyError, match=f"is being trained by process {other.pid} on "):
        with sole_writer(run, patience_s=0.5):
            pytest.fail("two writers")


def test_a_killed_writer_is_followed_at_once(run, other):
    killer = threading.Timer(0.5, other.send_signal, [signal.SIGKILL])
    killer.start()
    started = time.monotonic()
    with sole_writer(run):
        assert other.wait(timeout=10) == -signal.SIGKILL
        assert time.monotonic() - started >= 0.4, "not before it was dead"


def test_a_writer_that_ends_leaves_the_run_free(run):
    for _ in range(2):
        with sole_writer(run, patience_s=0.0):
            pass


def test_an_object_store_has_no_lock_and_needs_none_of_its_files(s3):
    with sole_writer(Store.open(f"{s3}/run")):
        assert not Store.open(s3).list()
