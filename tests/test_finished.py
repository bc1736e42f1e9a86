"""Records of finished commands: found by what the output follows from, ended by what changes."""

import os

import pytest

from unite.config.serialise import json_digest
from unite.finished import FILE, Record, fingerprint
from unite.storage import Store

LINES = ["metric  value", "fd  0.5"]


@pytest.fixture
def folder(tmp_path):
    store = Store.open(tmp_path / "out")
    store.write("a.png", b"1")
    store.write("sub/b.png", b"2")
    return store


@pytest.fixture
def record(folder):
    return Record(folder=folder, file=FILE, key=json_digest({"seed": 0}))


def test_what_was_printed_is_told_with_what_to_delete(record, folder):
    assert record.lines() is None
    record.keep(LINES, [folder], folder / "sub")
    *lines, last = record.lines()
    assert lines == LINES
    assert last.startswith("finished at ") and last.endswith(f"do it again, delete {folder}/sub")
    other = Record(folder=folder, file=FILE, key=json_digest({"seed": 1}))
    assert other.lines() is None


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: folder.write("sub/c.png", b""),
        lambda folder: folder.delete("sub/b.png"),
        lambda folder: folder.write("a.png", b"11"),
        lambda folder: os.utime(folder.path("a.png"), ns=(1, 1)),
        lambda folder: folder.delete("a.png") or folder.delete("sub"),
    ],
    ids=["more", "less", "other", "written again", "nothing"],
)
def test_a_change_of_what_was_left_ends_it(record, folder, change):
    record.keep(LINES, [folder], folder)
    assert record.lines()
    change(folder)
    assert record.lines() is None


def test_a_small_file_is_known_by_its_content_and_a_large_one_by_size_and_time(folder, monkeypatch):
    file = folder / "a.png"
    before = fingerprint(file)
    os.utime(file.path(), ns=(1, 1))
    assert fingerprint(file) == before
    folder.write("a.png", b"3")
    assert fingerprint(file) != before
    monkeypatch.setattr("unite.finished.DIGESTED_BYTES", 0)
    large = fingerprint(file)
    os.utime(file.path(), ns=(1, 1))
    assert fingerprint(file) != large


def test_what_is_not_there_has_no_fingerprint(record, folder):
    assert fingerprint(folder / "missing") == ""
    record.keep(LINES, [folder / "missing"], folder)
    assert record.lines() is None
