"""A dry run decodes a row of every shard, not of the first one."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unite.config.schema import ImagesConfig
from unite.data import probe
from unite.data.manifest import ShardError
from unite.data.probe import probe_shards
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES

DOMAIN = build_domain(ImagesConfig(size=8, patch=2, num_classes=10))


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write(folder, number: int, cells: list[bytes]) -> None:
    table = pa.table({"image": pa.array(cells, pa.binary()), "label": [0] * len(cells)})
    pq.write_table(table, folder / f"train-{number}.parquet", row_group_size=2)


def test_shards_in_order(tmp_path) -> None:
    for number in range(3):
        write(tmp_path, number, [png()] * 3)
    write(tmp_path, 3, [])
    found = probe_shards(ShardSet.open(tmp_path, "train", IMAGES), DOMAIN)
    assert found.num_shards == 3 and not found.bad
    assert str(found).startswith("3 shards, a row of each decoded, in 0 s")


def test_one_bad_first_row_is_said(tmp_path) -> None:
    write(tmp_path, 0, [png()] * 2)
    write(tmp_path, 1, [b"broken", png()])
    found = probe_shards(ShardSet.open(tmp_path, "train", IMAGES), DOMAIN)
    assert "bad first rows in 1 shard, as train-1.parquet: not a readable image" in str(found)


def test_a_later_shard_that_holds_no_images_is_an_error(tmp_path) -> None:
    write(tmp_path, 0, [png()] * 2)
    write(tmp_path, 1, [b"broken"] * 2)
    with pytest.raises(
        ShardError, match="train-1.parquet: none of its first 2 rows can be decoded"
    ):
        probe_shards(ShardSet.open(tmp_path, "train", IMAGES), DOMAIN)


def test_a_later_shard_with_damaged_pages_is_an_error(tmp_path) -> None:
    write(tmp_path, 0, [png()] * 2)
    write(tmp_path, 1, [png()] * 2)
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    data = bytearray((tmp_path / "train-1.parquet").read_bytes())
    data[4:24] = b"\xff" * 20  # the header of the first page; the footer is at the end
    (tmp_path / "train-1.parquet").write_bytes(data)
    with pytest.raises(ShardError, match="train-1.parquet is not a readable parquet file"):
        probe_shards(shards, DOMAIN)


def test_progress_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(probe, "TELL_SECONDS", 0.0)
    for number in range(2):
        write(tmp_path, number, [png()] * 2)
    lines: list[str] = []
    probe_shards(ShardSet.open(tmp_path, "train", IMAGES), DOMAIN, lines.append)
    assert lines[0].startswith("looked into 1 of 2 shards, ")
