"""A training set that is its own held-out set is recognised and named."""

import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.data.manifest import Shard, SplitManifest, write_manifest
from unite.data.overlap import describe_shared, shared_files
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.storage import Store


def write_shard(path, seed: int) -> None:
    images = [np.random.default_rng([seed, row]).bytes(40 + row) for row in range(6)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"image": images, "label": [0] * 6}), path, row_group_size=2)


def opened(train, held_out) -> tuple[ShardSet, ShardSet]:
    return ShardSet.open(train, "train", IMAGES), ShardSet.open(held_out, "eval", IMAGES)


def test_files_without_a_split_are_both(tmp_path):
    write_shard(tmp_path / "0.parquet", 0)
    write_shard(tmp_path / "1.parquet", 1)
    text = describe_shared(*opened(tmp_path, tmp_path))
    assert text.startswith("the held-out set is trained on: all of its files are the training")
    assert f"{tmp_path}/0.parquet, {tmp_path}/1.parquet" in text
    assert "data.eval" in text


def test_files_without_rows_are_no_shared_ones(tmp_path):
    for split, seed in {"train": 0, "test": 1}.items():
        write_shard(tmp_path / f"{split}-0.parquet", seed)
        none = pa.table({"image": pa.array([], pa.binary()), "label": pa.array([], pa.int64())})
        pq.write_table(none, tmp_path / f"{split}-1.parquet")
    assert describe_shared(*opened(tmp_path, tmp_path)) == ""


def test_splits_share_nothing(tmp_path):
    write_shard(tmp_path / "x-train.parquet", 0)
    write_shard(tmp_path / "x-test.parquet", 1)
    assert describe_shared(*opened(tmp_path, tmp_path)) == ""


def test_a_copy_under_another_name_is_found(tmp_path):
    write_shard(tmp_path / "a" / "train-0.parquet", 0)
    write_shard(tmp_path / "b" / "test-0.parquet", 1)
    shutil.copy(tmp_path / "a" / "train-0.parquet", tmp_path / "b" / "test-1.parquet")
    sets = opened(tmp_path / "a", tmp_path / "b")
    assert shared_files(*sets) == [f"{tmp_path}/b/test-1.parquet"]
    assert "1 of 2 of its files" in describe_shared(*sets)


@pytest.mark.parametrize(
    ("digests", "listings", "shared"),
    [("aa", "xy", True), ("ab", "xy", False), ("ab", "xx", True)],
    ids=["same bytes", "other bytes", "encoded otherwise"],
)
def test_prepared_files_are_compared_by_digest_and_by_source(tmp_path, digests, listings, shared):
    store, sections = Store.open(tmp_path), {}
    for name in ("train-0.parquet", "validation-0.parquet"):
        write_shard(tmp_path / name, 0)
    for number, split in enumerate(("train", "eval")):
        found = ShardSet.open(tmp_path, split, IMAGES)
        shard = Shard(
            file=found.files[0],
            row_groups=tuple(group.num_rows for group in found.row_groups),
            bytes=store.size(found.files[0]),
            sha256=digests[number],
        )
        sections[split] = SplitManifest(
            shards=(shard,),
            columns=("image", "label"),
            class_names=None,
            skipped={},
            preparation={"source": "DIR", "source_digest": listings[number]},
        )
    write_manifest(store, sections)
    assert bool(shared_files(*opened(tmp_path, tmp_path))) is shared
