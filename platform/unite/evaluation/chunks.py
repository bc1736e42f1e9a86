"""Chunks: the pieces of a suite, and the files of finished ones.

A chunk is a range of sample indices or data rows. Its boundaries follow from the total and the
number of chunks alone, never from who computes it, and its result is a small npz of sufficient
statistics, written atomically. So any number of workers gives the same files, and what is there
need not be computed again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from unite.evaluation.arrays import read_arrays, write_arrays
from unite.metrics.accumulator import Arrays
from unite.metrics.errors import MetricError
from unite.storage import Store

FOLDER = "chunks"
MOST_SAMPLES = 1000
"""Largest number of samples of a chunk, the most that a lost worker can cost."""
MOST_CHUNKS = 128
"""Largest number of chunks of a suite; the chunks of larger sets hold more than MOST_SAMPLES. Each
holds all sums (34 MB on Inception's features), whatever its size."""
FEWEST_SAMPLES = 32
LEAST_CHUNKS = 16
"""Smallest number of chunks of a suite, unless they would fall under FEWEST_SAMPLES: work for every
worker until the end, and prefixes fine enough for a coarse look at a sixteenth of the samples."""


class ChunkError(MetricError):
    """A kept result is cut, damaged or of other work; the message names its file."""


@dataclass(frozen=True, kw_only=True, order=True)
class Chunk:
    """Piece `index` of `count` of the range 0..total, under a label that names the work."""

    label: str
    index: int
    count: int
    total: int

    @property
    def start(self) -> int:
        """First index."""
        return self.total * self.index // self.count

    @property
    def stop(self) -> int:
        """One past the last index."""
        return self.total * (self.index + 1) // self.count

    def __len__(self) -> int:
        return self.stop - self.start

    def __str__(self) -> str:
        return f"{self.label}-{self.start}-{self.stop}"


def partition(label: str, total: int, count: int = 0) -> tuple[Chunk, ...]:
    """Cut 0..total into `count` nearly equal chunks; 0 chooses by the total alone."""
    if total < 1:
        raise ValueError(f"{label}: nothing to evaluate, the number of samples is {total}")
    count = min(count, total) or default_count(total)
    return tuple(Chunk(label=label, index=i, count=count, total=total) for i in range(count))


def default_count(total: int) -> int:
    """Chunks of at most MOST_SAMPLES while MOST_CHUNKS are enough; of few samples LEAST_CHUNKS, of
    FEWEST_SAMPLES or more."""
    enough = min(LEAST_CHUNKS, total // FEWEST_SAMPLES)
    return min(MOST_CHUNKS, max(1, enough, math.ceil(total / MOST_SAMPLES)))


def is_finished(folder: Store, chunk: Chunk) -> bool:
    """True if the chunk's result is in the folder."""
    return folder.is_file(_name(chunk))


def discard_chunk(folder: Store, chunk: Chunk) -> None:
    """Remove a result, so that it is computed again."""
    folder.delete(_name(chunk))


def write_chunk(folder: Store, chunk: Chunk, arrays: Arrays) -> None:
    """Write a result, completely or not at all."""
    write_arrays(folder, _name(chunk), arrays)


def read_chunk(folder: Store, chunk: Chunk) -> dict[str, np.ndarray]:
    """A kept result; StorageError when it is absent, ChunkError when it is damaged."""
    try:
        return read_arrays(folder.read(_name(chunk)))
    except MetricError as error:
        raise damaged(folder, chunk, str(error)) from error


def require_shapes(folder: Store, chunk: Chunk, kept: Arrays, own: Arrays) -> None:
    """ChunkError for a kept result whose arrays are not of its own names and shapes.

    One value may lack its axis, as it was written until 2026-11-27.
    """
    for name, array in own.items():
        if name not in kept or np.atleast_1d(kept[name]).shape != np.atleast_1d(array).shape:
            raise damaged(folder, chunk, f"its {name} is of another shape")


def damaged(folder: Store, chunk: Chunk, why: str) -> ChunkError:
    """Error of a result that cannot be used."""
    return ChunkError(
        f"{folder}/{_name(chunk)} is damaged: {why}. It counts as unfinished, and the same "
        "command computes it again"
    )


def _name(chunk: Chunk) -> str:
    return f"{FOLDER}/{chunk}.npz"
