"""Saving beside training: what a snapshot holds, and what becomes of unfinished folders."""

from __future__ import annotations

import errno
import threading
import time

import pytest
import torch

from unite import network
from unite.checkpoints.lease import LostLeaseError
from unite.checkpoints.store import (
    CheckpointError,
    CheckpointWriter,
    committed,
    folder_of,
    read_checkpoint,
)
from unite.config.schema import CheckpointConfig
from unite.storage import Store


def parts_of(weights: torch.Tensor) -> dict[str, dict[str, torch.Tensor]]:
    return {"model": {"w": weights}, "ema": {}, "optimizer": {"step": torch.tensor(3)}}


def writer_in(folder, **settings) -> CheckpointWriter:
    return CheckpointWriter(run=Store.open(folder), config=CheckpointConfig(**settings))


def test_a_snapshot_is_whole_once_it_has_settled(tmp_path):
    writer = writer_in(tmp_path, asynchronous=True)
    weights = torch.ones(64, 64)
    hold, make = threading.Event(), writer._copy_of

    def held(parts):
        copy = make(parts)
        return lambda: hold.wait(10) and copy()

    writer._copy_of = held
    writer.save(parts_of(weights), {"images": 1})
    settled = threading.Thread(target=writer.settle)
    settled.start()
    settled.join(0.1)
    assert settled.is_alive(), "the weights would change under the copy"
    hold.set()
    settled.join(10)
    weights.mul_(7.0)
    writer.close()
    stored = read_checkpoint(folder_of(writer.run, 1)).parts
    assert torch.equal(stored["model"]["w"], torch.ones(64, 64))
    assert stored["optimizer"]["step"] == 3 and stored["ema"] == {}


def test_a_copy_that_fails_holds_nobody_up(tmp_path, caplog):
    writer = writer_in(tmp_path, asynchronous=True)

    def fail(parts):
        def copy():
            raise MemoryError("no room for the copy")

        return copy

    writer._copy_of = fail
    writer.save(parts_of(torch.ones(2)), {"images": 1})
    writer.settle()
    writer.wait()
    assert isinstance(writer.error, MemoryError) and "no room for the copy" in caplog.text
    assert committed(writer.run) == []


def test_the_next_save_clears_what_a_killed_one_left(tmp_path):
    writer = writer_in(tmp_path, asynchronous=False, keep_last=2, keep_best=0)
    left = tmp_path / "checkpoints" / f"{5:012d}"
    left.mkdir(parents=True)
    (left / ".model.safetensors.0a1b2c3d.tmp").write_bytes(b"half")
    (tmp_path / "checkpoints" / "mine").mkdir()
    for images in (1, 2, 3):
        writer.save(parts_of(torch.ones(2)), {"images": images})
    assert committed(writer.run) == [2, 3]
    names = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert names == {f"{2:012d}", f"{3:012d}", "mine"}, "folders of other names are the user's"


def test_any_named_parts_go_in_and_the_same_come_out(tmp_path):
    writer = writer_in(tmp_path, asynchronous=False)
    names = ("decoder", "decoder_optimizer", "critic", "critic_optimizer")
    parts = {name: {"w": torch.full((2,), float(i))} for i, name in enumerate(names)}
    writer.save(parts, {"images": 1})
    folder = folder_of(writer.run, 1)
    found = read_checkpoint(folder).parts
    assert found.keys() == parts.keys()
    assert all(torch.equal(found[name]["w"], parts[name]["w"]) for name in names)
    assert read_checkpoint(folder, ("critic",)).parts.keys() == {"critic"}
    with pytest.raises(CheckpointError, match="holds no ema: it has critic, "):
        read_checkpoint(folder, ("ema",))
    with pytest.raises(ValueError, match=r"part '\.\./x'"):
        writer.save({"../x": {}}, {"images": 2})


@pytest.fixture
def impatient(monkeypatch):
    """Pauses of hundredths of a second."""
    monkeypatch.setattr(network, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(network, "LONGEST_PAUSE_S", 0.02)


def full_disk(monkeypatch, times):
    """Files of weights do not fit, so often."""
    write, left = Store._write, [times]

    def fails(store, name, pieces):
        if name.endswith(".safetensors") and left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")
        write(store, name, pieces)

    monkeypatch.setattr(Store, "_write", fails)


def save(writer, images):
    writer.save(parts_of(torch.full((2,), float(images))), {"images": images})
    writer.wait()
    writer.settle()


@pytest.mark.parametrize("asynchronous", [True, False])
def test_training_pauses_after_failed_saves_until_there_is_room(
    tmp_path, monkeypatch, impatient, caplog, asynchronous
):
    writer = writer_in(tmp_path, asynchronous=asynchronous, max_failed_saves=2)
    full_disk(monkeypatch, times=5)
    save(writer, 1)
    assert committed(writer.run) == [] and writer.failed == 1
    save(writer, 2)
    assert committed(writer.run) == [2], "it came back from settle once that was written"
    assert writer.failed == 0 and "training pauses after 2 failed saves" in caplog.text
    stored = read_checkpoint(folder_of(writer.run, 2)).parts
    assert torch.equal(stored["model"]["w"], torch.full((2,), 2.0))
    writer.close()


def test_a_disk_that_stays_full_ends_the_run(tmp_path, monkeypatch, impatient):
    writer = writer_in(tmp_path, asynchronous=True, max_failed_saves=1, patience_s=0.2)
    save(writer, 1)
    full_disk(monkeypatch, times=10**6)
    with pytest.raises(CheckpointError, match="No space left.*Free the place and run the same"):
        save(writer, 2)
    assert committed(writer.run) == [1]


def test_a_store_that_refuses_for_a_while_costs_no_save(stumbling_s3, impatient, caplog):
    uri, proxy = stumbling_s3
    writer = writer_in(f"{uri}/run", asynchronous=True)
    save(writer, 1)
    proxy.mode = "refuse"
    writer.save(parts_of(torch.ones(2)), {"images": 2})
    while proxy.spoilt < 8:
        time.sleep(0.05)
    proxy.mode = ""
    writer.close()
    assert committed(writer.run) == [1, 2] and writer.failed == 0
    assert caplog.text.count("the checkpoint at 2 images waits") == 1


def test_a_store_that_stays_away_ends_the_run(stumbling_s3, impatient):
    uri, proxy = stumbling_s3
    writer = writer_in(f"{uri}/run", asynchronous=True, max_failed_saves=1, patience_s=0.1)
    save(writer, 1)
    proxy.mode = "refuse"
    with pytest.raises(CheckpointError, match=r"checkpoint\.patience_s"):
        save(writer, 2)
    proxy.mode = ""
    assert committed(writer.run) == [1]


def test_a_lost_lease_ends_training_at_the_next_step(tmp_path):
    writer = writer_in(tmp_path, asynchronous=True)

    def lost():
        raise LostLeaseError("taken over")

    writer.lease.check = lost
    with pytest.raises(LostLeaseError):
        save(writer, 1)
    assert committed(writer.run) == []
