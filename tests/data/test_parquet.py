"""A network that stumbles is not damaged data."""

from __future__ import annotations

import os

import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from unite.data import parquet
from unite.data.manifest import ShardError
from unite.data.parquet import READ_ATTEMPTS, UnreachableError
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.storage import StorageError, Store

SLOW_DOWN = "When reading object: AWS Error SLOW_DOWN during GetObject operation: reduce your rate"


@pytest.fixture
def remote(s3, tmp_path, monkeypatch) -> ShardSet:
    monkeypatch.setattr(parquet, "RETRY_SECONDS", 0.0)
    table = pa.table({"image": [b"a", b"b"], "label": [0, 1]})
    pq.write_table(table, tmp_path / "train-0.parquet")
    store = Store.open(f"{s3}/set")
    store.write("train-0.parquet", (tmp_path / "train-0.parquet").read_bytes())
    return ShardSet.open(store.uri, "train", IMAGES)


@pytest.fixture
def failing(monkeypatch):
    """Makes the next openings of a file fail with these errors."""
    attempts = []

    def make(*errors: OSError) -> list[str]:
        left = list(errors)
        opened = pq.ParquetFile

        def open_file(*args, **kwargs):
            attempts.append("tried")
            if left:
                raise left.pop(0)
            return opened(*args, **kwargs)

        monkeypatch.setattr(parquet.pq, "ParquetFile", open_file)
        return attempts

    return make


def test_a_read_that_fails_is_tried_again(remote, failing, caplog):
    attempts = failing(OSError(SLOW_DOWN), OSError("connection reset"))
    assert remote.read(0).column("label").to_pylist() == [0, 1]
    assert len(attempts) == READ_ATTEMPTS
    assert "SLOW_DOWN" in caplog.text


def test_a_store_that_does_not_answer_is_not_called_damaged_data(remote, failing):
    failing(*[OSError(SLOW_DOWN)] * READ_ATTEMPTS)
    with pytest.raises(UnreachableError, match="train-0.parquet .* in 3 attempts.*SLOW_DOWN") as e:
        remote.read(0)
    # The trainer restarts after these and gives up after errors of the data (ValueError) or of
    # its own storage.
    assert not isinstance(e.value, ValueError | StorageError)
    assert "truncated" not in str(e.value)


def test_damage_on_a_store_that_answers_is_the_files(remote, failing):
    failing(*[OSError("Couldn't deserialize thrift")] * READ_ATTEMPTS)
    with pytest.raises(ShardError, match="train-0.parquet is not a readable parquet file"):
        remote.read(0)


def test_what_is_no_parquet_or_is_gone_is_not_tried_again(remote, failing):
    attempts = failing(pa.ArrowInvalid("magic bytes"))
    with pytest.raises(ShardError, match="not a readable parquet file"):
        remote.read(0)
    assert len(attempts) == 1
    Store.open(remote.uri).delete("train-0.parquet")
    with pytest.raises(ShardError, match="train-0.parquet is missing"):
        remote.read(0)


def test_a_local_read_is_not_tried_again(tmp_path, failing):
    pq.write_table(pa.table({"image": [b"a"], "label": [0]}), tmp_path / "a.parquet")
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    assert isinstance(Store.open(tmp_path).filesystem, pafs.LocalFileSystem)
    attempts = failing(OSError("input/output error"))
    with pytest.raises(ShardError, match="input/output error"):
        shards.read(0)
    assert len(attempts) == 1


def test_a_file_that_is_written_anew_is_read_by_its_new_footer(tmp_path):
    """The old one would read 8 bytes of a float as a whole number."""
    file = tmp_path / "train-0.parquet"
    images = [b"a", b"b"]
    pq.write_table(pa.table({"image": images, "label": [0, 1]}), file)
    assert ShardSet.open(tmp_path, "train", IMAGES).labels().tolist() == [0, 1]
    pq.write_table(pa.table({"image": images, "label": [0.0, 1.0]}), file)
    os.utime(file, ns=(1, 1))  # clocks of some file systems are coarse
    with pytest.raises(ShardError, match="the column label is of type double"):
        ShardSet.open(tmp_path, "train", IMAGES)
