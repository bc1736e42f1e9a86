"""Opening, reading and checking folders of shards."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from plain_data import changed_shards
from unite.data.manifest import (
    MANIFEST,
    UNFINISHED,
    Shard,
    ShardError,
    SplitManifest,
    read_manifest,
    write_manifest,
)
from unite.data.shards import ROW_ID, ShardSet
from unite.domains.columns import IMAGES
from unite.storage import Store


def write_shard(path: Path, labels: list[int], *, struct: bool = False, group: int = 3) -> None:
    images = [f"image {label}".encode() for label in labels]
    cells = [{"bytes": image, "path": "x.png"} for image in images] if struct else images
    table = pa.table({"image": cells, "label": pa.array(labels, pa.int64())})
    pq.write_table(table, path, row_group_size=group)


def write_prepared(folder: Path, sizes: dict[str, list[int]]) -> Store:
    """A folder with a manifest whose train split has these files and labels."""
    store, shards = Store.open(folder), []
    for name, labels in sizes.items():
        write_shard(folder / name, labels)
        groups = tuple(len(labels[i : i + 3]) for i in range(0, len(labels), 3))
        shards.append(
            Shard(file=name, row_groups=groups, bytes=store.size(name), sha256=store.digest(name))
        )
    write_manifest(store, {"train": manifest_of(tuple(shards))})
    return store


def manifest_of(shards: tuple[Shard, ...]) -> SplitManifest:
    return SplitManifest(
        shards=shards,
        columns=("image", "label"),
        class_names=("cat", "dog"),
        skipped={"corrupt": 2},
        preparation={"size": 8},
    )


@pytest.fixture
def prepared(tmp_path) -> Store:
    return write_prepared(
        tmp_path,
        {
            "train-00000-of-00002.parquet": [0, 1, 2, 3, 4, 5, 6],
            "train-00001-of-00002.parquet": [7, 8, 9, 10],
        },
    )


def test_prepared_folder(prepared):
    shards = ShardSet.open(prepared.uri, "train", IMAGES)
    assert shards.num_rows == 11
    assert [group.num_rows for group in shards.row_groups] == [3, 3, 1, 3, 1]
    assert [group.first_row for group in shards.row_groups] == [0, 3, 6, 7, 10]
    assert shards.class_names == ("cat", "dog")
    assert shards.manifest.skipped == {"corrupt": 2}
    assert shards.labels().tolist() == list(range(11))
    assert not changed_shards(shards)


def test_read_part_of_a_row_group(prepared):
    table = ShardSet.open(prepared.uri, "train", IMAGES).read(3, 1, 3)
    assert table.column_names == ["image", "label", ROW_ID]
    assert table.to_pydict() == {
        "image": [b"image 8", b"image 9"],
        "label": [8, 9],
        ROW_ID: [8, 9],
    }


def test_hugging_face_folder_of_several_splits(tmp_path):
    write_shard(tmp_path / "train-00000-of-00001.parquet", [0, 1, 2, 3], struct=True)
    write_shard(tmp_path / "test-00000-of-00001.parquet", [4, 5], struct=True)
    train, held_out = (
        ShardSet.open(tmp_path, "train", IMAGES),
        ShardSet.open(tmp_path, "eval", IMAGES),
    )
    assert train.labels().tolist() == [0, 1, 2, 3]
    assert held_out.read(0).to_pydict()["image"] == [b"image 4", b"image 5"]
    assert train.digest != held_out.digest
    write_shard(tmp_path / "validation-00000-of-00001.parquet", [6])
    assert ShardSet.open(tmp_path, "eval", IMAGES).labels().tolist() == [6]


def test_class_names_of_hugging_face_files(tmp_path):
    info = {"info": {"features": {"label": {"names": ["a", "b"], "_type": "ClassLabel"}}}}
    table = pa.table({"image": [b"x"], "label": [0]})
    table = table.replace_schema_metadata({"huggingface": json.dumps(info)})
    pq.write_table(table, tmp_path / "data.parquet")
    assert ShardSet.open(tmp_path, "train", IMAGES).class_names == ("a", "b")


def test_files_without_a_split_in_their_name_are_of_any(tmp_path):
    write_shard(tmp_path / "part-0.parquet", [0, 1])
    assert ShardSet.open(tmp_path, "eval", IMAGES).num_rows == 2
    assert ShardSet.open(tmp_path, "train", IMAGES).num_rows == 2


def test_split_that_is_not_there(tmp_path, prepared):
    with pytest.raises(ShardError, match="no split 'eval', only .'train'."):
        ShardSet.open(prepared.uri, "eval", IMAGES)
    (tmp_path / MANIFEST).unlink()
    with pytest.raises(ShardError, match="no shards of split 'eval'"):
        ShardSet.open(prepared.uri, "eval", IMAGES)


def test_no_shards(tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(ShardError, match="no parquet shards.*holds the folders data"):
        ShardSet.open(tmp_path, "train", IMAGES)
    with pytest.raises(ShardError, match="no parquet shards"):
        ShardSet.open(tmp_path / "absent", "train", IMAGES)


def test_no_rows(tmp_path):
    write_shard(tmp_path / "empty.parquet", [])
    with pytest.raises(ShardError, match="no rows"):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_a_file_without_rows_may_have_columns_of_no_type(tmp_path):
    write_shard(tmp_path / "a.parquet", [1, 0])
    none = pa.table({"image": pa.nulls(0), "label": pa.nulls(0)})
    pq.write_table(none, tmp_path / "b.parquet")
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    assert shards.labels().tolist() == [1, 0]
    assert shards.files == ("a.parquet",)


def test_manifest_of_another_version(prepared):
    value = prepared.read_json(MANIFEST)
    prepared.write_json(MANIFEST, {**value, "schema_version": 99})
    with pytest.raises(ShardError, match="schema version 99.*reads version 1"):
        ShardSet.open(prepared.uri, "train", IMAGES)


def test_interrupted_preparation(tmp_path):
    write_shard(tmp_path / "train-00000-of-00002.parquet", [0, 1])
    (tmp_path / UNFINISHED).mkdir()
    with pytest.raises(ShardError, match="was interrupted"):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_missing_shard_of_a_manifest(tmp_path, prepared):
    (tmp_path / "train-00001-of-00002.parquet").unlink()
    with pytest.raises(ShardError, match="train-00001-of-00002.parquet is missing or truncated"):
        ShardSet.open(prepared.uri, "train", IMAGES)


@pytest.mark.parametrize("with_manifest", [True, False])
def test_truncated_shard_is_named(tmp_path, prepared, with_manifest):
    path = tmp_path / "train-00001-of-00002.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    if not with_manifest:
        (tmp_path / MANIFEST).unlink()
    with pytest.raises(ShardError, match="train-00001-of-00002.parquet is .*truncated"):
        ShardSet.open(prepared.uri, "train", IMAGES)


def test_missing_column(tmp_path):
    pq.write_table(pa.table({"photo": [b"x"], "label": [0]}), tmp_path / "data.parquet")
    expected = r"data.parquet has no column image .*it has photo \(binary\), label \(int64\)"
    with pytest.raises(ShardError, match=expected):
        ShardSet.open(tmp_path, "train", IMAGES)


def test_digest_follows_the_content(tmp_path, prepared):
    before = ShardSet.open(prepared.uri, "train", IMAGES).digest
    splits = read_manifest(prepared)
    write_manifest(prepared, {**splits, "eval": manifest_of(splits["train"].shards[:1])})
    assert ShardSet.open(prepared.uri, "train", IMAGES).digest == before
    (tmp_path / MANIFEST).unlink()
    plain = ShardSet.open(prepared.uri, "train", IMAGES).digest
    write_shard(tmp_path / "train-00001-of-00002.parquet", [7, 8, 9])
    assert len({before, plain, ShardSet.open(prepared.uri, "train", IMAGES).digest}) == 3


def test_shards_on_s3(s3, tmp_path):
    write_shard(tmp_path / "a.parquet", list(range(10)), struct=True)
    store = Store.open(f"{s3}/set")
    store.write("a.parquet", (tmp_path / "a.parquet").read_bytes())
    shards = ShardSet.open(store.uri, "train", IMAGES)
    assert np.array_equal(shards.labels(), np.arange(10))
    assert shards.read(3).to_pydict()["image"] == [b"image 9"]


def test_cifar10_as_it_is(shared_dir):
    folder = shared_dir / "data" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is absent")
    assert ShardSet.open(folder, "train", IMAGES).num_rows == 50_000
    assert np.bincount(ShardSet.open(folder, "train", IMAGES).labels()).tolist() == [5000] * 10
    assert set(ShardSet.open(folder, "eval", IMAGES).labels().tolist()) == set(range(10))


def test_pointers_in_the_place_of_shards_are_named(tmp_path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 1000\n"
    (tmp_path / "bare").mkdir()
    (tmp_path / "prepared").mkdir()
    (tmp_path / "bare" / "train-0.parquet").write_bytes(pointer)
    with pytest.raises(ShardError, match=r"train-0.parquet is a Git LFS pointer.*git lfs pull"):
        ShardSet.open(str(tmp_path / "bare"), "train", IMAGES)
    store = write_prepared(tmp_path / "prepared", {"train-0.parquet": [1, 2]})
    store.write("train-0.parquet", pointer)
    with pytest.raises(ShardError, match=r"train-0.parquet is a Git LFS pointer"):
        ShardSet.open(store.uri, "train", IMAGES)


@pytest.mark.parametrize("part", ["shards", "columns", "class_names", "skipped", "preparation"])
def test_a_manifest_without_a_part_is_named(tmp_path, part):
    store = write_prepared(tmp_path, {"train-0.parquet": [1, 2]})
    value = store.read_json(MANIFEST)
    del value["splits"]["train"][part]
    store.write_json(MANIFEST, value)
    with pytest.raises(ShardError, match=f"manifest.json is damaged.*{part}"):
        read_manifest(store)
