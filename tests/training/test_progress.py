"""Progress of a run: written from a thread, newest last, and never the training's problem."""

import time

import pytest

from unite.storage import StorageError, Store
from unite.training.progress import ProgressWriter, read_progress


def test_the_last_word_is_in_the_folder_after_close(tmp_path):
    store = Store.open(tmp_path)
    writer = ProgressWriter(run=store)
    for images in range(20):
        writer.write("training", {"images": images}, force=True)
    writer.write("done", {"images": 20}, force=True)
    writer.close()
    progress = read_progress(store)
    assert (progress["state"], progress["images"]) == ("done", 20)


def test_without_force_at_most_once_a_period(tmp_path):
    store = Store.open(tmp_path)
    writer = ProgressWriter(run=store)
    writer.write("training", {"images": 1})
    writer.write("training", {"images": 2})
    writer.close()
    assert read_progress(store)["images"] == 1


def test_a_slow_or_full_place_is_told_once_and_costs_nothing(tmp_path, monkeypatch, caplog):
    def full(*_):
        time.sleep(0.05)
        raise StorageError("No space left on device")

    monkeypatch.setattr(Store, "write_json", full)
    writer = ProgressWriter(run=Store.open(tmp_path))
    started = time.process_time()
    for images in range(50):
        writer.write("training", {"images": images}, force=True)
    assert time.process_time() - started < 0.05
    writer.close()
    assert caplog.text.count("progress is not shown") == 1
    assert read_progress(Store.open(tmp_path)) is None


@pytest.mark.parametrize("text", ["[]", "{}", '{"state"', ""])
def test_a_damaged_document_is_no_news(tmp_path, text):
    (tmp_path / "progress.json").write_text(text)
    assert read_progress(Store.open(tmp_path)) is None
