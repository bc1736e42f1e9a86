"""Accumulators that any suite can use: rows that are kept, arrays that add up."""

import numpy as np
import pytest

from unite.metrics.accumulator import Stack, Sums, merge_arrays, to_arrays


def test_sums_and_rows_of_chunks_are_those_of_the_whole():
    totals = {"sums/": Sums(), "rows": Stack("rows")}
    for chunk in (np.arange(3.0), np.arange(4.0)):
        one = {"sums/": Sums(), "rows": Stack("rows")}
        one["sums/"].update(total=chunk.sum(), num=np.array(len(chunk)))
        one["rows"].update(rows=chunk)
        kept = to_arrays(one)
        assert set(kept) == {"sums/total", "sums/num", "rows"}
        merge_arrays(totals, kept)
    assert totals["sums/"].result() == {"total": 9.0, "num": 7}
    assert totals["rows"].result()["rows"].tolist() == [0, 1, 2, 0, 1, 2, 3]


def test_sums_of_other_names_are_refused():
    sums = Sums()
    sums.update(psnr=np.zeros(2))
    other = Sums()
    other.update(closeness=np.zeros(2))
    with pytest.raises(ValueError, match="cannot be added"):
        sums.merge(other.to_arrays())
    with pytest.raises(KeyError):
        Sums("histogram").merge({"features": np.zeros(2)})
