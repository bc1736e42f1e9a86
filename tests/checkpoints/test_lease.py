"""Two processes never write one run: on a disk by its lock, on an object store by a lease."""

from __future__ import annotations

import errno
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch

from unite.checkpoints import lease
from unite.checkpoints.lease import BusyError, LostLeaseError, hold
from unite.checkpoints.store import MARKER, CheckpointWriter, committed, folder_of
from unite.config.schema import CheckpointConfig
from unite.storage import StorageError, Store

HOLD = """
import sys, time
import torch
from unite.checkpoints import lease
from unite.checkpoints.store import CheckpointWriter
from unite.config.schema import CheckpointConfig
from unite.storage import Store
lease.RENEW_S, lease.LEASE_S = 0.3, 1.5
run = Store.open(sys.argv[1])
with lease.hold(run) as held:
    print("held", flush=True)
    sys.stdin.readline()
    writer = CheckpointWriter(run=run, config=CheckpointConfig(asynchronous=False), lease=held)
    try:
        writer.save({"model": {"w": torch.ones(8)}}, {"images": 5})
        print("saved", flush=True)
    except lease.LostLeaseError as error:
        print(error, flush=True)
"""


@pytest.fixture
def run(tmp_path) -> Store:
    return Store.open(tmp_path / "run")


def holder(run: Store) -> subprocess.Popen:
    """Another process that holds the run, and saves a checkpoint at 5 images when it is told to."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.uri],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "held\n"
    return process


def save(process: subprocess.Popen) -> str:
    """Answer of a holder that was told to save."""
    return process.communicate("\n", timeout=60)[0]


@pytest.fixture
def other(run):
    process = holder(run)
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def quick(monkeypatch):
    """Leases of seconds."""
    monkeypatch.setattr(lease, "RENEW_S", 0.3)
    monkeypatch.setattr(lease, "LEASE_S", 1.5)


@pytest.fixture
def remote(s3, quick) -> Store:
    return Store.open(f"{s3}/run")


def test_a_run_that_another_process_trains_is_refused_with_its_name(run, other):
    with pytest.raises(BusyError, match=f"is being trained by process {other.pid} on "):
        with hold(run, patience_s=0.5):
            pytest.fail("two writers")


def test_a_killed_writer_is_followed_at_once(run, other):
    killer = threading.Timer(0.5, other.send_signal, [signal.SIGKILL])
    killer.start()
    started = time.monotonic()
    with hold(run):
        assert other.wait(timeout=10) == -signal.SIGKILL
        assert time.monotonic() - started >= 0.4, "not before it was dead"


def test_a_writer_that_ends_leaves_the_run_free(run):
    for generation in (1, 2, 3):
        with hold(run, patience_s=0.0) as held:
            assert held.generation == generation


def test_a_driver_that_leaves_nothing_else_leaves_no_folder(run):
    with hold(run, "driver", patience_s=0.0):
        pass
    assert not run.exists()
    with hold(run, "driver", patience_s=0.0):
        run.write("config.json", b"{}")
    assert run.exists("config.json")


def test_driver_and_rank_0_hold_a_run_at_the_same_time(run, remote):
    for place in (run, remote):
        with hold(place, "driver", patience_s=0.0), hold(place, "writer", patience_s=0.0):
            pass


def test_a_lease_that_lives_is_respected(remote):
    first = holder(remote)
    with pytest.raises(BusyError, match=f"is being trained by process {first.pid} on "):
        with hold(remote, patience_s=0.0):
            pytest.fail("two writers")
    assert save(first) == "saved\n"
    with hold(remote, patience_s=0.0) as held:
        assert held.generation == 2, "what was let go is free at once"


def test_an_owner_that_slept_writes_nothing_when_it_wakes_up(remote):
    first = holder(remote)
    first.send_signal(signal.SIGSTOP)
    with hold(remote, patience_s=0.0) as held:
        assert held.generation == 2
        writer = CheckpointWriter(
            run=remote, config=CheckpointConfig(asynchronous=False), lease=held
        )
        writer.save({"model": {"w": torch.zeros(8)}}, {"images": 5})
        files = [name for name in remote.list("checkpoints", recursive=True) if "." in name]
        files = [f"checkpoints/{name}" for name in (*files, f"{5:012d}/{MARKER}")]
        before = {name: remote.read(name) for name in files}
        first.send_signal(signal.SIGCONT)
        assert "taken over by another process" in save(first)
        assert len(files) == 3 and {name: remote.read(name) for name in files} == before
        assert remote.read_json(f"checkpoints/{5:012d}/{MARKER}")["generation"] == 2
        held.check()


def test_a_killed_owner_is_followed_when_its_lease_has_run_out(remote):
    first = holder(remote)
    first.kill()
    first.wait()
    with hold(remote, patience_s=0.0) as held:
        assert held.generation == 2


def test_the_same_driver_takes_over_from_its_last_group_at_once(remote, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 1e6)
    with hold(remote, group="driver 1") as first:
        with hold(remote, group="driver 1", patience_s=0.0) as second:
            assert second.generation == 2
            with pytest.raises(LostLeaseError):
                first.check()
            assert not first.fresh and second.fresh


def test_a_renewal_whose_answer_was_lost_is_no_loss(remote, monkeypatch):
    with hold(remote) as held:
        monkeypatch.setattr(lease, "RENEW_S", 1e6)
        held._beat += 100
        assert lease.write_if(held.uri, held._record(), held._tag) != held._tag
        held.check()
        assert not held.lost


@pytest.mark.parametrize("before", [True, False])
def test_a_lease_whose_answer_was_lost_is_no_other_process_s(remote, monkeypatch, before):
    """boto3 asks again after a 500 or a cut connection: its second try meets the first one's."""
    if before:
        with hold(remote, "driver", patience_s=0.0):
            pass
    write, lost = lease.write_if, []

    def stutter(uri, data, tag):
        made = write(uri, data, tag)
        if not lost:
            lost.append(made)
            write(uri, data, tag)
        return made

    monkeypatch.setattr(lease, "write_if", stutter)
    with hold(remote, "driver", patience_s=0.0) as held:
        assert lost and held.generation == 1 + before
        held.check()


def test_a_place_that_takes_no_lease_is_named(tmp_path, s3):
    (tmp_path / "file").write_text("")
    places = {f"{tmp_path}/file/run": "Not a directory", "s3://no-such-bucket/run": "NoSuchBucket"}
    for place, why in places.items():
        with pytest.raises(StorageError, match=f"cannot write {place}/driver: .*{why}"):
            with hold(Store.open(place), "driver", patience_s=0.0):
                pytest.fail("held")


def test_a_full_disk_is_named_and_frees_the_lock(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="No space left"):
        patch.setattr(lease.os, "write", full)
        with hold(run, patience_s=0.0):
            pytest.fail("held")
    with hold(run, patience_s=0.0):
        pass


def test_a_store_that_is_away_loses_nothing(remote, monkeypatch):
    with hold(remote) as held, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        with pytest.raises(OSError):
            held.check()
        assert not held.lost
        patch.undo()
        held.check()


def test_a_checkpoint_that_another_one_commits_meanwhile_stays(remote):
    with hold(remote) as held:
        writer = CheckpointWriter(
            run=remote, config=CheckpointConfig(asynchronous=False), lease=held
        )
        commit = held.commit

        def late(place, value):
            place.write_json("", {"sha256": {}, "generation": 9})
            commit(place, value)

        held.commit = late
        with pytest.raises(LostLeaseError, match="was written by another process"):
            writer.save({"model": {"w": torch.zeros(8)}}, {"images": 5})
        assert committed(remote) == [5]
        assert folder_of(remote, 5).read_json(MARKER)["generation"] == 9


def test_a_commit_whose_answer_was_lost_is_no_conflict(remote):
    with hold(remote) as held:
        for _ in range(2):
            held.commit(remote / MARKER, {"sha256": {}})
