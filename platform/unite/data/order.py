"""The order of training samples: one endless sequence, a pure function of (seed, epoch).

Progress is one integer, c = samples seen; epoch = c // n and position = c % n for n rows. An epoch
permutes the row groups, chains their rows into one sequence, cuts it into `lanes` contiguous
ranges of equal length, shuffles each lane in windows of `window` rows and interleaves the lanes
round-robin: position p is row p // lanes of lane p % lanes. So every row appears once per epoch,
nothing is dropped, and any sample is found in O(1) without replaying the ones before it.

Rank r of `world` takes the c with c % world == r: the union over ranks never depends on the number
of workers, and when `world` divides `lanes` a rank reads only the row groups of its own lanes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np

# First word of every random stream of this module: two purposes never share numbers.
_GROUPS, _WINDOW = 1, 2


@dataclass(frozen=True, slots=True)
class Read:
    """Rows start..stop of one row group, needed by one lane of one epoch."""

    epoch: int
    window: int
    """Window of the lane that needs the read first; its last rows may belong to the next one."""
    lane: int
    index: int
    """Position of the first row within the lane, before the shuffle of windows."""
    group: int
    """Number of the row group in file order."""
    start: int
    stop: int

    @property
    def num_rows(self) -> int:
        """Rows that this read returns."""
        return self.stop - self.start


class Places(NamedTuple):
    """Places of samples: arrays of equal length."""

    epochs: np.ndarray
    lanes: np.ndarray
    windows: np.ndarray
    offsets: np.ndarray


class SampleOrder:
    """The order of a set of row groups under a seed; see the module's text for the rule."""

    def __init__(self, row_counts: Sequence[int], *, seed: int, lanes: int, window: int) -> None:
        """`row_counts` are rows per row group in file order; ValueError when there are none."""
        self.row_counts = np.asarray(row_counts, dtype=np.int64)
        self.num_rows = int(self.row_counts.sum())
        if self.num_rows == 0:
            raise ValueError("there is nothing to order: the row groups hold no rows")
        if lanes < 1 or window < 1:
            raise ValueError(
                f"data.lanes = {lanes} and data.shuffle_window = {window} must be at least 1"
            )
        self.seed, self.lanes, self.window = seed, lanes, window
        self.first_rows = np.cumsum(self.row_counts) - self.row_counts
        self._layout = lru_cache(maxsize=4)(self._draw_layout)

    def places(self, samples: np.ndarray) -> Places:
        """Epoch, lane, window and offset in the shuffled window of samples counted from 0."""
        epochs, positions = np.divmod(samples, self.num_rows)
        indices, lanes = np.divmod(positions, self.lanes)
        windows, offsets = np.divmod(indices, self.window)
        return Places(epochs, lanes, windows, offsets)

    def window_bounds(self, lane: int, window: int) -> tuple[int, int]:
        """First and last (excluded) lane index of a window; the last window may be short."""
        begin = window * self.window
        return begin, min(begin + self.window, self._lane_rows(lane))

    def window_permutation(self, epoch: int, lane: int, window: int) -> np.ndarray:
        """The shuffle of a window: its k-th sample is row permutation[k] of the window."""
        begin, end = self.window_bounds(lane, window)
        return permutation(end - begin, _WINDOW, self.seed, epoch, lane, window)

    def reads(self, *, rank: int, world: int, samples_seen: int) -> Iterator[Read]:
        """Reads of a rank from `samples_seen` on, without end, in the order of need.

        Windows that were consumed are skipped, a window that was begun is read from its start.
        Every row that a lane needs is in exactly one read.
        """
        epoch, position = divmod(samples_seen, self.num_rows)
        while True:
            yield from self._epoch_reads(epoch, position, rank, world)
            epoch, position = epoch + 1, 0

    def _epoch_reads(self, epoch: int, position: int, rank: int, world: int) -> Iterator[Read]:
        # c = epoch * num_rows + p is this rank's for p = residue (mod world); p decides the lane.
        residue = (rank - epoch * self.num_rows) % world
        shared = gcd(world, self.lanes)
        lanes = [lane for lane in range(self.lanes) if lane % shared == residue % shared]
        indices = {lane: max(0, -(-(position - lane) // self.lanes)) for lane in lanes}
        reached = {lane: index // self.window * self.window for lane, index in indices.items()}
        first = min(index // self.window for index in indices.values())
        for window in range(first, -(-self._lane_rows(0) // self.window)):
            for lane in lanes:
                end = self.window_bounds(lane, window)[1]
                while reached[lane] < end:
                    read = self._read_at(epoch, window, lane, reached[lane])
                    reached[lane] += read.num_rows
                    yield read

    def _read_at(self, epoch: int, window: int, lane: int, index: int) -> Read:
        """The read from a lane's index to the end of the row group, or of the lane."""
        groups, starts = self._layout(epoch)
        at = self._lane_start(lane) + index
        place = int(np.searchsorted(starts, at, side="right")) - 1
        group = int(groups[place])
        start = at - int(starts[place])
        lane_end = self._lane_start(lane) + self._lane_rows(lane)
        stop = min(int(self.row_counts[group]), lane_end - int(starts[place]))
        return Read(epoch, window, lane, index, group, start, stop)

    def _draw_layout(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The epoch's row groups in order, and where each begins in the chained sequence."""
        groups = permutation(len(self.row_counts), _GROUPS, self.seed, epoch)
        counts = self.row_counts[groups]
        return groups, np.cumsum(counts) - counts

    def _lane_start(self, lane: int) -> int:
        size, longer = divmod(self.num_rows, self.lanes)
        return lane * size + min(lane, longer)

    def _lane_rows(self, lane: int) -> int:
        size, longer = divmod(self.num_rows, self.lanes)
        return size + (lane < longer)


def permutation(size: int, *address: int) -> np.ndarray:
    """A random permutation of range(size), int64 (size,), decided by the address alone.

    It sorts raw words of PCG64, whose stream numpy keeps for ever; that of Generator.permutation
    may change between versions of numpy, and a resumed run must not meet another order.
    """
    words = [part % 2**64 for part in address]
    bits = np.random.PCG64(np.random.SeedSequence(words))
    return np.argsort(bits.random_raw(size), kind="stable")
