"""Numbers of workers that a run may have, and the micro-batches that follow from each.

`cluster.num_workers` is a number, or a range such as 8..64: the run then has as many workers as the
cluster holds. The global batch is the same for all of them, so only numbers that divide it count,
and a worker's micro-batch never grows beyond what it is with the most workers, or beyond
`training.micro_batch`: memory is bounded, and smaller groups accumulate instead.
"""

from __future__ import annotations

import re

from unite.config.schema import ClusterConfig, TrainingConfig

RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")


def bounds(config: ClusterConfig) -> tuple[int, int]:
    """Fewest and most workers; ValueError for text that is no range."""
    given = config.num_workers
    if isinstance(given, int):
        return given, given
    found = RANGE.fullmatch(given)
    fewest, most = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 0 < fewest <= most:
        raise ValueError(
            f"cluster.num_workers = {given!r} is neither a number of workers nor a range of them, "
            "fewest..most, such as 8..64"
        )
    return fewest, most


def most_workers(config: ClusterConfig) -> int:
    """The largest number of workers."""
    return bounds(config)[1]


def is_range(config: ClusterConfig) -> bool:
    """True if the number of workers follows the cluster."""
    fewest, most = bounds(config)
    return fewest < most


def sizes(config: ClusterConfig, batch_size: int) -> list[int]:
    """Numbers of workers that the run may have, ascending: of a range, those that divide the
    global batch."""
    fewest, most = bounds(config)
    return [n for n in range(fewest, most + 1) if fewest == most or batch_size % n == 0]


def accumulation(training: TrainingConfig, cluster: ClusterConfig, workers: int) -> int:
    """Micro-batches per step of each of `workers`, which divide the batch."""
    if not training.micro_batch and not is_range(cluster):
        return training.accumulation
    share = training.batch_size // workers
    largest = training.micro_batch or max(
        1, training.batch_size // (most_workers(cluster) * training.accumulation)
    )
    count = -(-share // largest)
    while share % count:
        count += 1
    return count
