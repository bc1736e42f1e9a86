"""Damaged checkpoints: each kind is found and set aside, and the one before is taken."""

from __future__ import annotations

import logging

import pytest
import torch

from unite.checkpoints.repair import DAMAGED, find_damage, latest_whole
from unite.checkpoints.store import MARKER, CheckpointWriter, committed, folder_of
from unite.config.schema import CheckpointConfig
from unite.storage import StorageError, Store


@pytest.fixture
def run(tmp_path) -> Store:
    return trained(Store.open(tmp_path / "run"))


def trained(place: Store) -> Store:
    """A run with checkpoints at 1 and 2 images."""
    writer = CheckpointWriter(run=place, config=CheckpointConfig(asynchronous=False, keep_last=2))
    for images in (1, 2):
        weights = {"w": torch.full((64, 64), float(images))}
        parts = {"model": weights, "optimizer": {"step": torch.tensor(images)}}
        writer.save(parts, {"images": images})
    return place


DAMAGE = {
    "cut": lambda folder: folder.write(
        "model.safetensors", folder.read("model.safetensors")[:-100]
    ),
    "other bytes": lambda folder: folder.write(
        "model.safetensors", folder.read("model.safetensors")[:-4] + b"\0\0\0\0"
    ),
    "no header": lambda folder: folder.write("model.safetensors", b"\xff" * 40),
    "file gone": lambda folder: folder.delete("optimizer.safetensors"),
    "marker empty": lambda folder: folder.write(MARKER, b""),
    "marker of nothing": lambda folder: folder.write(MARKER, b'{"sha256": {}}'),
    "marker cut": lambda folder: folder.write(MARKER, folder.read(MARKER)[:30]),
    "state empty": lambda folder: folder.write("state.json", b""),
    "state of another": lambda folder: folder.write("state.json", b'{"images": 3}'),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_taken_loudly(run, kind, caplog):
    DAMAGE[kind](folder_of(run, 2))
    before = sorted(folder_of(run, 2).list())
    with caplog.at_level(logging.ERROR):
        assert latest_whole(run, thorough=True) == folder_of(run, 1)
    assert "the checkpoint at 2 images is damaged" in caplog.text
    assert committed(run) == [1]
    aside = Store(f"{folder_of(run, 2).uri}{DAMAGED}")
    assert sorted(aside.list()) == before, "nothing of it is deleted"
    assert not folder_of(run, 2).exists()


def test_an_object_store_sets_aside_too(s3):
    run = trained(Store.open(f"{s3}/run"))
    DAMAGE["cut"](folder_of(run, 2))
    assert latest_whole(run, thorough=False) == folder_of(run, 1)
    assert committed(run) == [1]
    assert MARKER in Store(f"{folder_of(run, 2).uri}{DAMAGED}").list()


@pytest.mark.parametrize("kind", sorted(DAMAGE.keys() - {"other bytes"}))
def test_all_but_changed_bytes_shows_without_reading_the_weights(run, kind):
    DAMAGE[kind](folder_of(run, 2))
    assert find_damage(folder_of(run, 2), thorough=False)
    assert not find_damage(folder_of(run, 1), thorough=False)


def test_whole_ones_stay_where_they_are(run, caplog):
    assert latest_whole(run, thorough=True) == folder_of(run, 2)
    assert committed(run) == [1, 2] and "damaged" not in caplog.text


def test_none_is_left_when_all_are_damaged_and_twice_the_same_is_no_problem(run):
    for images in (1, 2):
        Store(f"{folder_of(run, images).uri}{DAMAGED}").write("old", b"")
        folder_of(run, images).write(MARKER, b"")
    assert latest_whole(run, thorough=False) is None
    assert sorted(run.list("checkpoints")) == [f"{n:012d}{DAMAGED}" for n in (1, 2)]


def test_a_place_that_does_not_answer_is_no_damage(run, monkeypatch):
    def refuse(self, name=""):
        raise StorageError("cannot read: connection refused")

    monkeypatch.setattr(Store, "read", refuse)
    with pytest.raises(StorageError, match="refused"):
        latest_whole(run, thorough=True)
    monkeypatch.undo()
    assert committed(run) == [1, 2]
