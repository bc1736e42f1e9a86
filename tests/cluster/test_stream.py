"""The Ray Data reader gives the same rows, in the same order, as reading in this process."""

import contextlib
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.schema import DataConfig, ImagesConfig
from unite.data.loader import BatchStream, local_reader
from unite.data.order import SampleOrder
from unite.data.shards import ROW_ID, ShardError, ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES
from unite.storage import Store

pytestmark = pytest.mark.ray

ROWS, GROUP = 900, 20


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("shards")
    for file in range(3):
        rows = range(file * ROWS // 3, (file + 1) * ROWS // 3)
        table = pa.table(
            {"image": [f"{row}".encode() * (1 + row % 50) for row in rows], "label": list(rows)}
        )
        pq.write_table(table, path / f"train-{file}.parquet", row_group_size=GROUP)
    return path


@pytest.fixture
def stream(ray_cluster, monkeypatch):
    """The reader's module with pipelines so short that a test crosses several of them."""
    from unite.cluster import stream

    monkeypatch.setattr(stream, "ROWS_PER_PIPELINE", 800)
    monkeypatch.setattr(stream, "ROWS_PER_TASK", 150)
    return stream


def order_of(shards: ShardSet) -> SampleOrder:
    counts = [group.num_rows for group in shards.row_groups]
    return SampleOrder(counts, seed=3, lanes=4, window=64)


@pytest.mark.parametrize(("seen", "head_rows"), [(0, 100), (1234, 100), (500, 0)])
def test_same_tables_as_the_local_reader(stream, folder, seen, head_rows):
    shards = ShardSet.open(folder, "train", IMAGES)
    plan = {"rank": 1, "world": 2, "samples_seen": seen}
    reads = order_of(shards).reads(**plan)
    with (
        contextlib.closing(stream.ray_reader(shards, reads, head_rows=head_rows)) as ours,
        contextlib.closing(local_reader(shards, order_of(shards).reads(**plan))) as reference,
    ):
        for table, expected in islice(zip(ours, reference, strict=True), 160):
            assert table.to_pydict() == expected.to_pydict()


def test_its_tasks_ask_for_no_cpu_of_which_ray_shares_whole_ones_alone(
    stream, folder, ray_cluster, monkeypatch
):
    """Without a share there is no room for tables, and Ray Data's scheduler holds the GIL."""
    asked, mapped = [], ray_cluster.data.Dataset.map_batches

    def map_batches(self, *arguments, **options):
        asked.append(options)
        return mapped(self, *arguments, **options)

    monkeypatch.setattr(ray_cluster.data.Dataset, "map_batches", map_batches)
    shards = ShardSet.open(folder, "train", IMAGES)
    reads = order_of(shards).reads(rank=0, world=1, samples_seen=0)
    with contextlib.closing(stream.ray_reader(shards, reads, head_rows=0)) as tables:
        assert next(iter(tables)).num_rows
    assert {(options["num_cpus"], options["concurrency"]) for options in asked} == {(0, 2)}


def test_ray_tasks_read_from_s3(stream, folder, s3):
    store = Store.open(f"{s3}/shards")
    for path in folder.iterdir():
        store.write(path.name, path.read_bytes())
    remote, local = (
        ShardSet.open(store.uri, "train", IMAGES),
        ShardSet.open(folder, "train", IMAGES),
    )
    plan = {"rank": 0, "world": 1, "samples_seen": 0}
    reads = order_of(remote).reads(**plan)
    with contextlib.closing(stream.ray_reader(remote, reads, head_rows=0)) as tables:
        for table, read in zip(tables, islice(order_of(local).reads(**plan), 40), strict=False):
            assert table.to_pydict() == local.read(read.group, read.start, read.stop).to_pydict()


def test_pipelines_are_cut_by_rows_and_by_bytes(stream, folder, monkeypatch):
    """Which keeps what waits in the object store bounded, for images of any size."""
    shards = ShardSet.open(folder, "train", IMAGES)

    def lengths() -> list[int]:
        reads = order_of(shards).reads(rank=0, world=1, samples_seen=0)
        parts = islice(stream._pipelines(shards, reads), 5)
        return [sum(read.num_rows for read in part) for part in parts]

    assert all(800 <= rows < 800 + GROUP for rows in lengths())
    per_row = sum(path.stat().st_size for path in folder.iterdir()) / ROWS
    monkeypatch.setattr(stream, "BYTES_PER_PIPELINE", round(100 * per_row))
    assert all(60 <= rows <= 160 for rows in lengths())


def test_two_ranks_see_every_row_once_per_epoch(stream, folder):
    shards, seen = ShardSet.open(folder, "train", IMAGES), []
    for rank in range(2):
        plan = order_of(shards).reads(rank=rank, world=2, samples_seen=0)
        epochs = [read.epoch for read in islice(plan, 400)]
        plan = order_of(shards).reads(rank=rank, world=2, samples_seen=0)
        with contextlib.closing(stream.ray_reader(shards, plan, head_rows=0)) as tables:
            for epoch, table in zip(epochs, tables, strict=False):
                if epoch > 1:
                    break
                seen.append((epoch, table.column(ROW_ID).to_pylist()))
    for epoch in range(2):
        rows = [row for at, part in seen for row in part if at == epoch]
        assert sorted(rows) == list(range(ROWS))


def test_batches_through_ray_equal_local_batches(stream, shared_dir):
    folder = shared_dir / "data" / "cifar10"
    if not folder.is_dir():
        pytest.skip(f"needs {folder}, which is absent")
    shards = ShardSet.open(folder, "eval", IMAGES)
    domain = build_domain(ImagesConfig(size=32, patch=4, num_classes=10))
    config = DataConfig(train=str(folder), lanes=2, shuffle_window=256, decode_threads=1)
    streams = [
        BatchStream(shards, domain, config, batch_size=100, seed=1, images_seen=7950, reader=reader)
        for reader in (partial(stream.ray_reader, head_rows=0), local_reader)
    ]
    for ours, reference in islice(zip(*streams, strict=True), 25):
        assert np.array_equal(ours.rows_B, reference.rows_B)
        assert np.array_equal(ours.epochs_B, reference.epochs_B)
        assert np.array_equal(ours.fields["image"], reference.fields["image"])
    for part in streams:
        part.close()


def test_a_broken_shard_is_named(stream, folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shards = ShardSet.open(tmp_path, "train", IMAGES)
    (tmp_path / "train-1.parquet").write_bytes(b"PAR1")
    plan = order_of(shards).reads(rank=0, world=1, samples_seen=0)
    with (
        contextlib.closing(stream.ray_reader(shards, plan, head_rows=0)) as tables,
        pytest.raises(ShardError, match="train-1.parquet is not a readable parquet file"),
    ):
        for _ in islice(tables, 200):
            pass
