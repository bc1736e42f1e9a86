"""Classes of labels compared with the number of classes of a model: one rule for training, its
plan and evaluation.

A label outside 0..num_classes-1 is an error. A class that never occurs is a warning: samples of it
would be of something that was never trained. Only the label column is read, and of at most
MOST_LABELS rows (1.28 million, ImageNet's, take a second from a local disk on two cores);
of a larger set, those of evenly spaced shards. A missing label is a bad row, which training
replaces and counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from unite.data.manifest import ShardError
from unite.data.shards import MISSING, ShardSet, read_labels
from unite.domains.columns import LABEL
from unite.words import count

MOST_LABELS = 4_000_000
SHOWN = 8
"""Largest number of classes that a message lists."""


@dataclass(frozen=True, kw_only=True)
class ClassCounts:
    """Number of rows of a split in each class."""

    uri: str
    counts: np.ndarray
    """Rows by class, int64 (num_classes,)."""
    num_rows: int
    """Number of rows looked at."""
    is_part: bool
    """True if the split has more rows than were looked at."""

    @property
    def absent(self) -> np.ndarray:
        """Classes of which there is no row, int64, ascending."""
        return np.flatnonzero(self.counts == 0)

    def warning(self, num_samples: int = 0) -> str:
        """A remark on classes that never occur, in one line with the fix; "" when all do.

        `num_samples` samples with balanced classes are about to be drawn, 0 = any number.
        """
        absent, total = len(self.absent), len(self.counts)
        if not absent:
            return ""
        rows = f"the {self.num_rows:,} rows looked at of " if self.is_part else ""
        untrained = f"{absent} of {total}"
        if num_samples:
            drawn = np.arange(num_samples) % total
            untrained = f"{int(np.isin(drawn, self.absent).sum()):,} of the {num_samples:,}"
        return (
            f"{absent} of the {total} classes of domain.num_classes never occur in {rows}"
            f"{self.uri} ({_listed(self.absent)}): {untrained} samples with balanced classes "
            f"would be of classes that were never trained; {self._cure()}"
        )

    def _cure(self) -> str:
        present = len(self.counts) - len(self.absent)
        if self.absent[0] == present:
            return f"train with --domain.num-classes {present}"
        return f"number the {present} classes that occur 0..{present - 1}, and train with that many"


def count_classes(shards: ShardSet, num_classes: int) -> ClassCounts | None:
    """Rows of each class; None for data without a column of labels.

    ValueError naming the labels that are outside 0..num_classes-1, with the fix.
    """
    if LABEL.name not in [column.name for column in shards.columns]:
        return None
    names = shards.class_names
    if names is not None and len(names) > num_classes:
        raise ShardError(
            f"domain.num_classes = {num_classes}, but {shards.uri} has {len(names)} classes; set "
            f"--domain.num-classes {len(names)}"
        )
    files = _chosen_files(shards)
    values, counts = _histogram(shards.uri, files, shards.digest)
    labelled = values != MISSING
    outside = labelled & ((values < 0) | (values >= num_classes))
    if outside.any():
        num_outside = int(counts[outside].sum())
        raise ShardError(_outside(shards.uri, values[labelled], num_outside, num_classes))
    inside = values >= 0
    by_class = np.zeros(num_classes, np.int64)
    by_class[values[inside]] = counts[inside]
    num_rows = int(counts.sum())
    return ClassCounts(
        uri=shards.uri, counts=by_class, num_rows=num_rows, is_part=num_rows < shards.num_rows
    )


def _chosen_files(shards: ShardSet) -> tuple[str, ...]:
    """All shards, or evenly spaced ones that hold about MOST_LABELS rows."""
    stride = -(-shards.num_rows // MOST_LABELS)
    return shards.files[::stride]


@lru_cache(maxsize=16)
def _histogram(uri: str, files: tuple[str, ...], digest: str) -> tuple[np.ndarray, np.ndarray]:
    """Labels that occur, ascending, and how often each does; read once for each `digest`."""
    return np.unique(read_labels(uri, files), return_counts=True)


def _outside(uri: str, values: np.ndarray, num_rows: int, num_classes: int) -> str:
    """Message about labels (`values`, ascending) of which some have no class."""
    low, high = int(values[0]), int(values[-1])
    if low < 0:
        cure = "leave rows without a label out (-1 is a usual mark of them)"
    elif low == 1 and high == num_classes:
        cure = "they count from 1: store label - 1"
    else:
        cure = f"set --domain.num-classes {high + 1}, or number the classes 0..{num_classes - 1}"
    return (
        f"{uri}: {count(num_rows, 'row')} with labels outside 0..{num_classes - 1} "
        f"(domain.num_classes = {num_classes}); the labels are {low}..{high}: {cure}"
    )


def _listed(classes: np.ndarray) -> str:
    shown = ", ".join(map(str, classes[:SHOWN]))
    return shown + (", ..." if len(classes) > SHOWN else "")
