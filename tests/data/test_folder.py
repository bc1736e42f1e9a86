"""The parquet files of a folder: which are of a split, and what is said of the others."""

import pytest

from unite.data.folder import ParquetFolder, holds_parquet
from unite.data.manifest import ShardError
from unite.storage import StorageError, Store


@pytest.fixture
def folder(tmp_path):
    def make(*names: str) -> ParquetFolder:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x" * len(name))
        return ParquetFolder.list(Store.open(tmp_path))

    return make


def test_split_in_the_middle_of_names(folder):
    found = folder("cifar10-train.parquet", "cifar10-test.parquet", "notes.txt")
    assert found.select("train", "DIR") == ({"cifar10-train.parquet": 21}, ())
    assert found.select("eval", "DIR") == ({"cifar10-test.parquet": 20}, ())


def test_splits_in_folders(folder, tmp_path):
    found = folder("train/0.parquet", "split=test/0.parquet", "old/0.parquet", "._0.parquet")
    assert found.select("train", "DIR")[0] == {"train/0.parquet": 15}
    assert found.foreign == ("._0.parquet",)
    assert found.select("eval", "DIR")[0] == {"split=test/0.parquet": 20}
    assert holds_parquet(Store.open(tmp_path))
    # Files in the folder itself are the data set then.
    assert list(folder("a.parquet").sizes) == ["a.parquet"]


def test_foreign_files_are_said_by_split(folder):
    found = folder("train-0.parquet", "._train-0.parquet", "._test-0.parquet", ".x.parquet")
    assert found.foreign_of("train") == ["._train-0.parquet", ".x.parquet"]
    note = "not taken, hidden or a system's own: ._train-0.parquet, .x.parquet"
    assert found.select("train", "DIR") == ({"train-0.parquet": 15}, (note,))


def test_a_link_to_nowhere_is_an_error_and_to_a_blob_is_not(folder, tmp_path):
    folder("blob", "train-0.parquet")
    (tmp_path / "train-1.parquet").symlink_to("blob")
    assert folder().sizes == {"train-0.parquet": 15, "train-1.parquet": 4}
    (tmp_path / "train-2.parquet").symlink_to("absent")
    with pytest.raises(ShardError, match="train-2.parquet is a link that leads nowhere"):
        folder()


def test_a_link_to_itself_is_one_to_nowhere(folder, tmp_path):
    (tmp_path / "self").symlink_to("self")
    assert folder("train-0.parquet").sizes == {"train-0.parquet": 15}
    (tmp_path / "train-1.parquet").symlink_to("train-1.parquet")
    with pytest.raises(ShardError, match="train-1.parquet is a link that leads nowhere"):
        folder()


def test_a_folder_that_cannot_be_listed_is_named(folder, tmp_path, monkeypatch):
    def refuse(place: str) -> None:
        raise PermissionError(13, "Permission denied", place)

    monkeypatch.setattr("unite.data.folder.os.scandir", refuse)
    with pytest.raises(StorageError, match=f"cannot list {tmp_path}: .*Permission denied"):
        folder()


def test_files_that_their_numbers_miss_are_said(folder):
    found = folder("train-00000-of-00003.parquet", "train-00002-of-00003.parquet")
    note = "only 2 of the 3 files train-*-of-00003.parquet are here"
    assert found.select("train", "DIR")[1] == (note,)
    assert folder("train-00001-of-00003.parquet").select("train", "DIR")[1] == ()


def test_no_parquet_at_all(folder):
    with pytest.raises(ShardError, match=r"no parquet shards in DIR \(it holds the folders data\)"):
        folder("data/x.txt").select("train", "DIR")


def test_a_bucket_is_listed_alike(folder, s3):
    names = ("train/0.parquet", "test/0.parquet", "test/._0.parquet")
    for name in names:
        Store.open(f"{s3}/of-splits").write(name, b"x" * len(name))
    assert ParquetFolder.list(Store.open(f"{s3}/of-splits")) == folder(*names)
