"""The data's promises in plain lines: the order of an epoch, and the digests of shards."""

from __future__ import annotations

import numpy as np

from unite.data.order import SampleOrder, permutation
from unite.data.shards import ShardSet
from unite.storage import Store

GROUPS, WINDOW = 1, 2
"""First words of the random streams of the order."""


def epoch_rows(order: SampleOrder, epoch: int) -> np.ndarray:
    """Global row ids of a whole epoch in order, int64 (num_rows,), by the rule alone."""
    groups = np.split(np.arange(order.num_rows), np.cumsum(order.row_counts)[:-1])
    drawn = permutation(len(groups), GROUPS, order.seed, epoch)
    chained = np.concatenate([groups[group] for group in drawn])
    rows = np.empty(order.num_rows, dtype=np.int64)
    for lane, part in enumerate(np.array_split(chained, order.lanes)):
        windows = [part[at : at + order.window] for at in range(0, len(part), order.window)]
        shuffled = [
            window[permutation(len(window), WINDOW, order.seed, epoch, lane, number)]
            for number, window in enumerate(windows)
        ]
        rows[lane :: order.lanes] = np.concatenate([part[:0], *shuffled])
    return rows


def changed_shards(shards: ShardSet) -> list[str]:
    """Names of the shards whose bytes have another digest than the manifest says."""
    store, manifest = Store.open(shards.uri), shards.manifest
    assert manifest is not None
    return [shard.file for shard in manifest.shards if store.digest(shard.file) != shard.sha256]
