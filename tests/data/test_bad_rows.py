"""The list of bad rows: each once, whatever is killed, resumed or refused."""

from __future__ import annotations

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from unite.config.schema import DataConfig, ImagesConfig
from unite.data import bad_rows
from unite.data.bad_rows import BadDataError, BadRowList, BadRows, read_bad_rows
from unite.data.loader import BatchStream
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES
from unite.storage import StorageError, Store


@pytest.fixture(params=["local", "s3"])
def run(request, tmp_path) -> Store:
    return Store.open(tmp_path if request.param == "local" else request.getfixturevalue("s3"))


def rows_of(run: Store) -> list[int]:
    return [entry["row"] for entry in read_bad_rows(run)]


def test_each_row_is_listed_once_over_ranks_epochs_and_restarts(run):
    ranks = [BadRowList(run, rank=rank, images_seen=0) for rank in range(2)]
    ranks[0].add([(3, "broken: x"), (5, "no label")])
    ranks[1].add([(4, "broken: y")])
    ranks[0].add([(3, "broken: x")])  # the next epoch
    for rank in ranks:
        rank.flush()
        rank.flush()
    assert len(run.list(bad_rows.FOLDER)) == 2
    resumed = BadRowList(run, rank=0, images_seen=64)
    resumed.add([(4, "broken: y"), (9, "broken: z")])
    resumed.flush()
    again = BadRowList(run, rank=0, images_seen=64)
    again.add([(11, "broken")])
    again.flush()
    assert rows_of(run) == [3, 4, 5, 9, 11]
    assert read_bad_rows(run)[2] == {"row": 5, "reason": "no label"}


def test_it_is_written_while_the_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(bad_rows, "WRITE_SECONDS", 0.0)
    run = Store.open(tmp_path)
    listed = BadRowList(run, rank=0, images_seen=0)
    for row in (1, 2):
        listed.add([(row, "broken")])
        assert rows_of(run)[-1] == row


def test_a_folder_that_refuses_costs_no_row_and_no_training(tmp_path, monkeypatch, caplog):
    run = Store.open(tmp_path)
    listed = BadRowList(run, rank=0, images_seen=0)
    listed.add([(1, "broken")])
    with monkeypatch.context() as patch:

        def refuse(*_):
            raise StorageError("No space left on device")

        patch.setattr(Store, "write", refuse)
        listed.flush()
    assert "No space left" in caplog.text
    listed.flush()
    assert rows_of(run) == [1]


def test_counts_are_of_every_time_a_row_comes_by():
    bad = BadRows("somewhere", 1.0)
    for _ in range(3):
        bad.add(10, [(4, "broken: here")])
    assert (bad.total, bad.rows_seen, bad.summary()) == (3, 30, "3 x broken")


@pytest.mark.parametrize(("share", "aborts"), [(0.009, False), (0.02, True)])
def test_real_images_above_one_percent_bad_end_the_run_with_the_list(tmp_path, share, aborts):
    rng = np.random.default_rng(0)
    buffer = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).save(buffer, "JPEG")
    cells, rows = [buffer.getvalue()] * 2000, set(range(7, 2000, round(1 / share)))
    for row in rows:
        cells[row] = cells[row][:60] if row % 2 else b"no image"
    table = pa.table({"image": cells, "label": [0] * len(cells)})
    pq.write_table(table, tmp_path / "train-0.parquet", row_group_size=500)
    run = Store.open(tmp_path / "run")
    stream = BatchStream(
        ShardSet.open(tmp_path, "train", IMAGES),
        build_domain(ImagesConfig(size=8, patch=4, num_classes=2)),
        DataConfig(decode_threads=1),
        batch_size=500,
        seed=0,
        bad_rows=BadRowList(run, rank=0, images_seen=0),
    )
    try:
        if aborts:
            with pytest.raises(BadDataError, match="max_bad_fraction = 0.01.*folder bad_rows"):
                for _ in range(4):
                    next(stream)
        else:
            for _ in range(4):
                next(stream)
    finally:
        stream.close()
    listed = read_bad_rows(run)
    assert {entry["row"] for entry in listed} <= rows
    assert {entry["reason"].partition(":")[0] for entry in listed} == {"not a readable image"}
    assert aborts or len(listed) == len(rows)
