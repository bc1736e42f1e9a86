"""Batches: exact positions, decoding, bad rows, threads that end."""

import contextlib
import io
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unite.config.schema import DataConfig, ImagesConfig
from unite.data.bad_rows import BadDataError
from unite.data.loader import BatchStream, sequential_batches
from unite.data.shards import ShardError, ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES

ROWS = 57


class NumbersDomain:
    """Each cell holds its row's number as text; `bad` rows cannot be decoded."""

    columns = ("image", "label")
    rows_per_task = 32

    def __init__(self, bad: set[int] = frozenset()) -> None:
        self.bad = bad
        self.calls: list[int] = []

    def decode_rows(self, rows):
        self.calls.append(len(rows["image"]))
        numbers = np.array([int(cell) for cell in rows["image"]], dtype=np.int64)
        bad = [(i, f"broken: {n}") for i, n in enumerate(numbers) if int(n) in self.bad]
        values = np.stack([numbers, np.array(rows["label"], dtype=np.int64)], axis=1)
        values[[i for i, _ in bad]] = 0
        return {"value": values}, bad


def write_numbers(folder: Path, rows: int = ROWS, group: int = 5) -> ShardSet:
    half = rows // 2
    for name, part in {"a": range(half), "b": range(half, rows)}.items():
        cells = [str(number).encode() for number in part]
        table = pa.table({"image": cells, "label": [number % 3 for number in part]})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=group)
    return ShardSet.open(folder, "train", IMAGES)


@pytest.fixture(scope="module")
def numbers(tmp_path_factory) -> ShardSet:
    return write_numbers(tmp_path_factory.mktemp("numbers"))


def config(**changes) -> DataConfig:
    settings = {"train": "x", "lanes": 3, "shuffle_window": 4, "decode_threads": 2}
    return DataConfig(**{**settings, **changes})


@pytest.mark.parametrize(("most", "threads", "expected"), [(32, 1, 32), (7, 1, 7), (32, 4, 15)])
def test_a_thread_decodes_as_many_rows_at_once_as_the_domain_says(numbers, most, threads, expected):
    """And all threads have some of a batch."""
    domain = NumbersDomain()
    domain.rows_per_task = most
    (batch,) = sequential_batches(numbers, domain, batch_size=ROWS, decode_threads=threads)
    assert batch.fields["value"][:, 0].tolist() == list(range(ROWS))
    assert max(domain.calls) == expected and sum(domain.calls) == ROWS


def take(shards: ShardSet, batches: int, *, domain=None, data=None, **place):
    """`batches` batches of a stream that is closed afterwards."""
    stream = BatchStream(shards, domain or NumbersDomain(), data or config(), seed=5, **place)
    try:
        return [next(stream) for _ in range(batches)]
    finally:
        stream.close()


def samples(batches) -> list[tuple[int, int]]:
    return [
        pair
        for batch in batches
        for pair in zip(batch.epochs_B.tolist(), batch.rows_B.tolist(), strict=True)
    ]


def test_batches_straddle_epochs_and_drop_nothing(numbers):
    got = samples(take(numbers, 20, batch_size=8))
    assert len(got) == 160
    for epoch in (0, 1):
        assert sorted(row for e, row in got if e == epoch) == list(range(ROWS))
    assert [e for e, _ in got] == sorted(e for e, _ in got)


def test_fields_belong_to_their_rows(numbers):
    for batch in take(numbers, 5, batch_size=50):
        assert np.array_equal(batch.fields["value"][:, 0], batch.rows_B)
        assert np.array_equal(batch.fields["value"][:, 1], batch.rows_B % 3)


@settings(max_examples=15, deadline=None, database=None)
@given(st.integers(1, 3), st.integers(0, 130), st.integers(1, 4), st.integers(1, 6))
def test_ledger_killed_and_resumed_anywhere_with_any_workers(numbers, world, seen, lanes, window):
    data = config(lanes=lanes, shuffle_window=window * 3)
    straight = samples(take(numbers, 200 // 6 + 1, batch_size=6, data=data))
    merged = {}
    for rank in range(world):
        resumed = take(
            numbers, 6, batch_size=6, data=data, rank=rank, world=world, images_seen=seen
        )
        first = seen + (rank - seen) % world
        merged |= {first + i * world: sample for i, sample in enumerate(samples(resumed))}
    assert [merged[sample] for sample in range(seen, seen + 36)] == straight[seen : seen + 36]


def test_bad_rows_are_replaced_alike_for_any_number_of_workers(numbers):
    domain, data = NumbersDomain({3, 4, 40}), config(max_bad_fraction=1.0)
    whole = take(numbers, 10, domain=domain, data=data, batch_size=6)
    parts = [
        take(numbers, 10, domain=domain, data=data, batch_size=6, rank=rank, world=2)
        for rank in range(2)
    ]
    merged = [part[i].fields["value"][:, 0] for i in range(10) for part in parts]
    values = np.concatenate([batch.fields["value"][:, 0] for batch in whole])
    interleaved = np.concatenate(
        [np.stack(merged[i : i + 2], axis=1).ravel() for i in range(0, 20, 2)]
    )
    assert np.array_equal(values, interleaved)
    rows = np.concatenate([batch.rows_B for batch in whole])
    assert set(rows[values != rows]) == {3, 4, 40}
    assert not {3, 4, 40} & set(values)
    assert sorted(rows[:ROWS]) == list(range(ROWS)), "a replaced row keeps its place in the ledger"


def test_bad_rows_are_counted_per_reason(numbers, caplog):
    stream = BatchStream(
        numbers, NumbersDomain({7}), config(), batch_size=ROWS, seed=0, images_seen=0
    )
    with contextlib.closing(stream):
        next(stream)
        next(stream)
    assert stream.bad.counts == Counter({"broken": 2})
    assert stream.bad.rows_seen == 2 * ROWS
    assert "row 7 of" in caplog.text


def test_too_many_bad_rows_abort(numbers):
    with pytest.raises(BadDataError, match="of .* rows of .* are bad .*x broken"):
        take(numbers, 30, domain=NumbersDomain(set(range(0, ROWS, 4))), batch_size=ROWS)


def test_one_early_bad_row_does_not_abort_but_zero_tolerance_does(numbers):
    take(numbers, 2, domain=NumbersDomain({5}), batch_size=ROWS)
    with pytest.raises(BadDataError):
        strict = config(max_bad_fraction=0.0)
        take(numbers, 2, domain=NumbersDomain({5}), data=strict, batch_size=ROWS)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_a_bad_row_alone_in_its_window_is_replaced_by_one_of_its_row_group(numbers, world):
    """Whatever lane and worker it falls to: windows hold one row each."""
    data = config(shuffle_window=1)
    for bad, stands in ((7, 8), (9, 5)):  # row groups of five: 9 is the last of 5..9
        got = [
            batch
            for rank in range(world)
            for batch in take(
                numbers, 20, domain=NumbersDomain({bad}), data=data, batch_size=6, rank=rank,
                world=world,
            )
        ]  # fmt: skip
        rows = np.concatenate([batch.rows_B for batch in got])
        values = np.concatenate([batch.fields["value"][:, 0] for batch in got])
        assert set(values[rows == bad]) == {stands}
        assert np.array_equal(values[rows != bad], rows[rows != bad])


def test_a_bad_row_in_a_wholly_bad_row_group_is_replaced_by_one_of_the_next(numbers):
    bad = {53, 54, 55, 56}  # the last row group; row 0 follows
    data = config(shuffle_window=1, max_bad_fraction=1.0)
    got = take(numbers, 1, domain=NumbersDomain(bad), data=data, batch_size=ROWS)[0]
    values = got.fields["value"][:, 0]
    assert set(values[np.isin(got.rows_B, list(bad))]) == {0}


def test_a_file_without_rows_is_not_read_for_a_substitute(tmp_path):
    none = pa.table({"image": pa.nulls(0), "label": pa.nulls(0)})
    pq.write_table(none, tmp_path / "c.parquet")  # after the last row group of b
    shards = write_numbers(tmp_path, rows=2, group=1)
    with pytest.raises(BadDataError, match="row 1 is bad"):
        take(shards, 1, domain=NumbersDomain({1}), data=config(shuffle_window=1), batch_size=2)


def test_a_wholly_bad_set_aborts(numbers):
    with pytest.raises(BadDataError, match="row .* is bad, and so are all of the .* rows .*broken"):
        take(numbers, 1, domain=NumbersDomain(set(range(ROWS))), batch_size=4)


def test_close_ends_every_thread_promptly(numbers):
    before = set(threading.enumerate())
    stream = BatchStream(numbers, NumbersDomain(), config(), batch_size=4, seed=0)
    next(stream)
    stream.close()
    assert not {thread for thread in threading.enumerate() if thread.is_alive()} - before


def test_reading_runs_only_a_little_ahead(numbers):
    pulled = []

    def reader(shards, reads):
        for read in reads:
            pulled.append(read)
            yield shards.read(read.group, read.start, read.stop)

    stream = BatchStream(numbers, NumbersDomain(), config(), batch_size=2, seed=0, reader=reader)
    next(stream)
    time.sleep(0.3)
    stream.close()
    assert len(pulled) < 15


def test_a_reader_that_answers_out_of_order_is_caught(numbers):
    def reader(shards, reads):
        pair = [next(reads), next(reads)]
        for read in reversed(pair):
            yield shards.read(read.group, read.start, read.stop)

    stream = BatchStream(numbers, NumbersDomain(), config(), batch_size=2, seed=0, reader=reader)
    with pytest.raises(RuntimeError, match="out of order"):
        next(stream)
    stream.close()


def test_a_shard_that_breaks_while_training_is_named(tmp_path):
    shards = write_numbers(tmp_path)
    (tmp_path / "b.parquet").write_bytes(b"")
    with pytest.raises(ShardError, match="b.parquet"):
        take(shards, 40, batch_size=4)


def test_batch_size_must_be_divisible(numbers):
    with pytest.raises(ValueError, match="training.batch_size = 7 must be divisible by the 2"):
        take(numbers, 1, batch_size=7, world=2)


def test_lanes_that_workers_do_not_divide_are_told(numbers, caplog):
    take(numbers, 1, batch_size=8, world=2, data=config(lanes=3))
    assert "data.lanes = 3 is not a multiple of the 2 workers" in caplog.text


def test_waiting_is_accounted(numbers):
    def slow(shards, reads):
        for read in reads:
            time.sleep(0.02)
            yield shards.read(read.group, read.start, read.stop)

    stream = BatchStream(numbers, NumbersDomain(), config(), batch_size=4, seed=0, reader=slow)
    next(stream)
    stream.close()
    assert stream.wait_seconds > 0


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("limit", [None, 20, 1])
def test_sequential_batches_cover_the_first_rows_in_order(numbers, world, limit):
    rows = []
    for rank in range(world):
        batches = list(
            sequential_batches(
                numbers, NumbersDomain(), batch_size=8, rank=rank, world=world, limit=limit
            )
        )
        assert all(len(batch) == 8 for batch in batches[:-1])
        for batch in batches:
            assert np.array_equal(batch.fields["value"][:, 0], batch.rows_B)
            rows += batch.rows_B.tolist()
    assert rows == list(range(limit or ROWS))


def test_sequential_batches_leave_bad_rows_out(numbers):
    domain = NumbersDomain({0, 9})
    batches = list(sequential_batches(numbers, domain, batch_size=10))
    rows = np.concatenate([batch.rows_B for batch in batches])
    assert rows.tolist() == [row for row in range(ROWS) if row not in (0, 9)]
    values = np.concatenate([batch.fields["value"][:, 0] for batch in batches])
    assert np.array_equal(values, rows)
    with pytest.raises(BadDataError):
        list(sequential_batches(numbers, NumbersDomain(set(range(30))), batch_size=10))


def test_real_images_with_bad_ones_among_them(tmp_path):
    """Palette, alpha, CMYK and grey images are converted; corrupt ones and odd labels replaced."""
    noise = np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    cells, labels = [], []
    for index, mode in enumerate(["RGB", "L", "P", "RGBA", "CMYK"] * 8):
        buffer = io.BytesIO()
        image = Image.fromarray(noise).convert(mode)
        image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
        cells.append(buffer.getvalue())
        labels.append(index % 4)
    cells[3], cells[8], labels[11] = cells[3][:40], b"no image", 4
    pq.write_table(pa.table({"image": cells, "label": labels}), tmp_path / "a.parquet")
    domain = build_domain(ImagesConfig(size=16, patch=4, num_classes=4))
    stream = BatchStream(
        ShardSet.open(tmp_path, "train", IMAGES),
        domain,
        config(shuffle_window=64),
        batch_size=40,
        seed=0,
    )
    with contextlib.closing(stream):
        batch = next(stream)
    assert batch.fields["image"].shape == (40, 16, 16, 3)
    assert batch.fields["image"].dtype == np.uint8
    assert batch.fields["image"].reshape(40, -1).std(axis=1).min() > 0
    assert stream.bad.counts.total() == 3
