"""Groups whose size follows the cluster (`cluster.num_workers` LOW..HIGH).

The size of each group is chosen when it starts, by the driver or, after a loss, by Ray Train's
controller (`cluster/restarts.py`). A thread of rank 0 looks for room for a larger one, which the
run then makes at its next checkpoint. Ray Train has elastic groups of its own
(`ScalingConfig(num_workers=(low, high))`); they are resized in the middle of a step, at the cost of
all since the last checkpoint, and to numbers that do not divide the batch.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from unite import terminal
from unite.cluster.connect import CapacityError, Node, nodes
from unite.cluster.resources import WorkerGroup, train_workers
from unite.config.finetune import as_trained
from unite.config.schema import ClusterConfig, RunConfig
from unite.config.workers import bounds, is_range, sizes
from unite.training.requests import Request
from unite.words import count

logger = logging.getLogger(__name__)

SETTLE_SECONDS = 10.0
"""Seconds in which an ended group's resources come free, before fewer workers are taken."""
POLL_SECONDS = 1.0
ROOM_POLL_SECONDS = 30.0


class Search:
    """The largest group of a run with a range of workers that fits into what is free.

    What is free is looked at again and again: an ended group's resources come back one by one, and
    fewer workers than the cluster holds are taken after SETTLE_SECONDS.
    """

    def __init__(self, config: RunConfig, patience_s: float) -> None:
        self.cluster = config.cluster
        self.batch_size = as_trained(config).training.batch_size
        self.patience_s = patience_s
        self.began = time.monotonic()

    def look(self, have: Sequence[Node], free: Sequence[Node]) -> WorkerGroup | None:
        """The group, from all and the free resources of the nodes; None = look again.

        CapacityError after `patience_s` without room for the smallest.
        """
        waited = time.monotonic() - self.began
        try:
            group = train_workers(self.cluster, free, batch_size=self.batch_size)
        except CapacityError:
            if waited >= self.patience_s:
                raise
            return None
        return None if self._grows(group, have) and waited < SETTLE_SECONDS else group

    def _grows(self, group: WorkerGroup, have: Sequence[Node]) -> bool:
        """True if the nodes hold a larger group than the one that fits now."""
        with suppress(CapacityError):  # of a node that has just gone
            most = train_workers(self.cluster, have, batch_size=self.batch_size)
            return most.num_workers > group.num_workers
        return False


def next_group(config: RunConfig, patience_s: float) -> WorkerGroup:
    """The group that a search finds, which is told; it looks once a second."""
    search = Search(config, patience_s)
    while True:
        free = nodes(free=True, answering=True)
        group = search.look(nodes(answering=True), free)
        if group is not None:
            break
        time.sleep(POLL_SECONDS)
    terminal.tell(size_in_words(config.cluster, group, free, search.batch_size))
    return group


def size_in_words(
    cluster: ClusterConfig, group: WorkerGroup, free: Sequence[Node], batch_size: int
) -> str:
    """Line on a group's size, and why it is no larger."""
    fewest, most = bounds(cluster)
    line = f"{count(group.num_workers, 'worker')} of {fewest}..{most}"
    room = min(most, group.fits(free))
    if room > group.num_workers == max(size for size in sizes(cluster, batch_size) if size <= room):
        line += f": there is room for {room}, but only numbers that divide the batch of "
        line += f"{batch_size} are taken"
    return line


def own_group(num_workers: int) -> WorkerGroup:
    """The group of so many workers that this worker of Ray Train is one of."""
    import ray

    own = ray.get_runtime_context().get_assigned_resources()
    return WorkerGroup(
        num_workers=num_workers, cpus_per_worker=own.get("CPU", 0.0), use_gpu="GPU" in own
    )


class RoomWatch:
    """MAKE_ROOM once the cluster has room for a larger group than the one that trains; a thread
    looks, so that a step never waits."""

    def __init__(
        self,
        config: RunConfig,
        group: WorkerGroup,
        look: Callable[[], Sequence[Node]] = lambda: nodes(free=True),
    ) -> None:
        self.cluster = config.cluster
        self.batch_size = as_trained(config).training.batch_size
        self.group = group
        self.look = look
        self.found = 0
        largest = sizes(self.cluster, self.batch_size)[-1]
        if is_range(self.cluster) and group.num_workers < largest:
            threading.Thread(target=self._watch, daemon=True, name="room-watch").start()

    def __call__(self) -> Request:
        return Request.MAKE_ROOM if self.found else Request.NONE

    def larger(self, free: Sequence[Node]) -> int:
        """The size that the next group would have if this one ended; 0 = it is no larger."""
        own = {"CPU": 0.0, "GPU": 0.0, **self.group.bundle}
        have = [*free, *[own] * self.group.num_workers]
        try:
            found = train_workers(self.cluster, have, batch_size=self.batch_size).num_workers
        except CapacityError:  # others hold what is kept for Ray Data
            return 0
        return found if found > self.group.num_workers else 0

    def _watch(self) -> None:
        while not self.found:
            time.sleep(ROOM_POLL_SECONDS)
            try:
                self.found = self.larger(self.look())
            except Exception as error:  # Ray's own are many; it is asked again
                logger.warning("the cluster does not tell what is free: %s", error)
        logger.warning(
            "the cluster has room for %s: the run grows at its next checkpoint",
            count(self.found, "worker"),
        )
