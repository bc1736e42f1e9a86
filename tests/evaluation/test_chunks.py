import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unite.evaluation.chunks import (
    FEWEST_SAMPLES,
    LEAST_CHUNKS,
    MOST_CHUNKS,
    MOST_SAMPLES,
    Chunk,
    is_finished,
    partition,
    read_chunk,
    write_chunk,
)
from unite.storage import StorageError, Store


@given(st.integers(1, 200_000), st.integers(0, 300))
def test_a_partition_covers_every_index_once(total, count):
    chunks = partition("work", total, count)
    assert chunks[0].start == 0
    assert chunks[-1].stop == total
    assert all(a.stop == b.start for a, b in zip(chunks, chunks[1:], strict=False))
    assert all(len(chunk) > 0 for chunk in chunks)


@pytest.mark.parametrize("total", [1, 31, 100, 600, 5000, 50_000, 1_281_167])
def test_the_default_number_of_chunks_suits_the_total(total):
    chunks = partition("work", total)
    assert len(chunks) <= MOST_CHUNKS
    assert max(map(len, chunks)) <= MOST_SAMPLES or len(chunks) == MOST_CHUNKS
    if total >= LEAST_CHUNKS * FEWEST_SAMPLES:
        assert len(chunks) >= LEAST_CHUNKS
    else:
        assert min(map(len, chunks)) >= min(FEWEST_SAMPLES, total)


def test_nothing_to_evaluate_is_an_error():
    with pytest.raises(ValueError, match="generation: nothing to evaluate"):
        partition("generation", 0)


def test_a_chunk_is_kept_under_its_range(tmp_path):
    folder = Store.open(tmp_path)
    chunk = Chunk(label="generation", index=1, count=4, total=100)
    assert not is_finished(folder, chunk)
    write_chunk(folder, chunk, {"sum": np.arange(3.0), "text": np.array("a")})
    assert is_finished(folder, chunk)
    assert (tmp_path / "chunks" / "generation-25-50.npz").is_file()
    arrays = read_chunk(folder, chunk)
    np.testing.assert_array_equal(arrays["sum"], np.arange(3.0))
    assert str(arrays["text"]) == "a"


def test_a_missing_chunk_is_named(tmp_path):
    chunk = Chunk(label="probe", index=0, count=1, total=7)
    with pytest.raises(StorageError, match="probe-0-7.npz"):
        read_chunk(Store.open(tmp_path), chunk)
