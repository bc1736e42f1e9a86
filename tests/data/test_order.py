"""The ledger: every row once per epoch, whatever the workers, lanes, windows and kill points."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plain_data import epoch_rows
from unite.data.order import SampleOrder, permutation

counts = st.lists(st.integers(0, 12), min_size=1, max_size=8).filter(any)
shapes = st.fixed_dictionaries(
    {"lanes": st.integers(1, 7), "window": st.integers(1, 20), "seed": st.integers(0, 2**40)}
)
quick = settings(max_examples=60, deadline=None, database=None)


def rows_of(order: SampleOrder, begin: int, end: int) -> np.ndarray:
    """Row ids of the samples begin..end from whole epochs, the definition of the order."""
    epochs = range(begin // order.num_rows, -(-end // order.num_rows))
    rows = np.concatenate([epoch_rows(order, epoch) for epoch in epochs])
    return rows[begin - epochs[0] * order.num_rows :][: end - begin]


def replay(order: SampleOrder, *, rank: int, world: int, begin: int, end: int) -> dict[int, int]:
    """{sample: row} of a rank from its reads alone, as a consumer that began at `begin` does."""
    reads = order.reads(rank=rank, world=world, samples_seen=begin)
    lanes: dict[tuple[int, int], dict[int, int]] = {}
    found = {}
    for sample in range(begin + (rank - begin) % world, end, world):
        epoch, lane, window, offset = (int(part) for part in order.places(np.asarray(sample)))
        first, last = order.window_bounds(lane, window)
        have = lanes.setdefault((epoch, lane), {})
        while not all(index in have for index in range(first, last)):
            read = next(reads)
            begin_row = int(order.first_rows[read.group]) + read.start
            into = lanes.setdefault((read.epoch, read.lane), {})
            for k in range(read.num_rows):
                assert read.index + k not in into, "a row was read twice"
                into[read.index + k] = begin_row + k
        shuffled = order.window_permutation(epoch, lane, window)
        found[sample] = have[first + int(shuffled[offset])]
    return found


def walked(order: SampleOrder, epoch: int) -> np.ndarray:
    """Row ids of an epoch as one consumer meets them, int64 (num_rows,)."""
    begin = epoch * order.num_rows
    found = replay(order, rank=0, world=1, begin=begin, end=begin + order.num_rows)
    return np.array([found[sample] for sample in sorted(found)])


@quick
@given(counts, shapes, st.integers(0, 3))
def test_an_epoch_holds_every_row_once(row_counts, shape, epoch):
    order = SampleOrder(row_counts, **shape)
    assert sorted(walked(order, epoch)) == list(range(sum(row_counts)))


@quick
@given(counts, shapes, st.integers(1, 5), st.integers(0, 120), st.integers(1, 120))
def test_ranks_together_follow_the_order_from_any_sample(row_counts, shape, world, begin, length):
    order = SampleOrder(row_counts, **shape)
    found = {}
    for rank in range(world):
        part = replay(order, rank=rank, world=world, begin=begin, end=begin + length)
        assert not found.keys() & part.keys()
        found |= part
    assert sorted(found) == list(range(begin, begin + length))
    in_order = [found[sample] for sample in sorted(found)]
    assert in_order == rows_of(order, begin, begin + length).tolist()


@quick
@given(counts, shapes, st.lists(st.tuples(st.integers(1, 3), st.integers(0, 40)), max_size=5))
def test_killed_and_resumed_with_other_worker_counts(row_counts, shape, legs):
    order = SampleOrder(row_counts, **shape)
    seen, rows = 0, []
    for world, length in legs:
        leg: dict[int, int] = {}
        for rank in range(world):
            leg |= replay(order, rank=rank, world=world, begin=seen, end=seen + length)
        rows += [leg[sample] for sample in sorted(leg)]
        seen += length
    assert rows == (rows_of(order, 0, seen).tolist() if seen else [])


@quick
@given(st.lists(st.integers(1, 12), min_size=1, max_size=8), st.integers(1, 6), st.integers(0, 9))
def test_a_rank_reads_only_its_own_lanes_when_world_divides_them(row_counts, world, window):
    order = SampleOrder(row_counts, seed=1, lanes=2 * world, window=window + 1)
    per_rank: list[set[int]] = []
    for rank in range(world):
        lanes = set()
        for read in order.reads(rank=rank, world=world, samples_seen=0):
            if read.epoch > 0:
                break
            lanes.add(read.lane)
        per_rank.append(lanes)
    assert sum(len(lanes) for lanes in per_rank) == len(set().union(*per_rank))


@pytest.mark.parametrize(("lanes", "most"), [(64, 1.05), (16, 4.2)])
def test_64_ranks_of_imagenet_read_their_share(lanes, most):
    """Shards as they are prepared: 256 rows a group. With 16 lanes each row is read four times."""
    counts = [256] * (1_281_167 // 256) + [1_281_167 % 256]
    order = SampleOrder(counts, seed=0, lanes=lanes, window=2048)
    share = order.num_rows / 64
    for rank in range(64):
        rows, windows = 0, set()
        for read in order.reads(rank=rank, world=64, samples_seen=0):
            if read.epoch:
                break
            rows += counts[read.group]  # a group is read whole
            windows.add(read.lane)
        assert rows <= most * share
        assert len(windows) == 1, "one window of rows in memory"


def test_order_depends_on_seed_and_epoch_only():
    def order(seed: int) -> SampleOrder:
        return SampleOrder([50] * 20, seed=seed, lanes=4, window=64)

    same = order(7)
    walked(same, 5)  # Drawing other epochs before changes nothing.
    assert np.array_equal(walked(same, 2), walked(order(7), 2))
    assert not np.array_equal(walked(same, 2), walked(same, 3))
    assert not np.array_equal(walked(same, 2), walked(order(8), 2))


def test_order_is_frozen():
    """A resumed run must meet the order that it was started with: these numbers may not change."""
    order = SampleOrder([4, 3, 5], seed=11, lanes=2, window=4)
    assert walked(order, 0).tolist() == FROZEN[0]
    assert walked(order, 1).tolist() == FROZEN[1]


FROZEN = (
    [0, 9, 1, 7, 3, 8, 2, 6, 4, 10, 5, 11],
    [7, 0, 6, 10, 5, 11, 4, 1, 8, 3, 9, 2],
)


def test_neighbours_in_a_shard_are_spread():
    order = SampleOrder([100] * 50, seed=0, lanes=4, window=500)
    rows = walked(order, 0)
    assert np.median(np.abs(np.diff(rows))) > 500


def test_resuming_skips_consumed_windows():
    order = SampleOrder([10] * 100, seed=0, lanes=2, window=50)
    first = next(order.reads(rank=0, world=1, samples_seen=700))
    assert first.index == 350


def test_nothing_to_order():
    with pytest.raises(ValueError, match="no rows"):
        SampleOrder([0, 0], seed=0, lanes=1, window=1)
    with pytest.raises(ValueError, match="data.lanes = 0"):
        SampleOrder([3], seed=0, lanes=0, window=1)


def test_permutation_addresses_are_distinct():
    drawn = {tuple(permutation(12, 1, seed, epoch)) for seed in range(6) for epoch in range(6)}
    assert len(drawn) == 36
    assert sorted(permutation(12, 2, -1)) == list(range(12))
