"""A pool of Ray actors: each item is computed once, whatever happens to workers.

The driver owns the queue and leases one item at a time to each actor. An actor that dies (killed,
out of memory, its spot node gone) gives its item back to the queue and is replaced, and so is one
that takes much longer than the items of its kind before it; an exception of the work itself would
only repeat, and ends the job at once. Results do not travel: workers keep them, and check first
whether an item is finished already.

Ray Data's fixed pool of actors would do the same for one list of items. benchmarks/fanout.py has
both, and its dated result says why this one stayed.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from unite import terminal
from unite.cluster.connect import CapacityError, connect
from unite.cluster.labels import preferred
from unite.cluster.resources import WorkerGroup, free_resources, pool_workers, wait_for
from unite.evaluation.arguments import WorkerArguments
from unite.training.watchdog import RECENT_STEPS, limit
from unite.words import clock, count

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Worker = Callable[[Item], None]
"""Function that computes an item and keeps the result."""

MOST_LOSSES = 3
"""Number of workers lost to one item after which the item is held responsible."""
START_SECONDS = 180.0
"""Seconds of waiting for the first worker, or for a replacement when none is left; `wait_s` is
added."""
POLL_SECONDS = 1.0


class WorkError(RuntimeError):
    """An item raised an error of its own; the message names the item and carries the error's."""


class WorkersLostError(RuntimeError):
    """Workers keep dying; the message names the item."""


class _Actor(Generic[Item]):
    """Actor class: it runs in the actor's process."""

    def __init__(self, make_worker: Callable[[], Worker[Item]]) -> None:
        self._make_worker = make_worker
        self._worker: Worker[Item] | None = None

    def ready(self) -> None:
        """Answers once the process is there."""

    def run(self, item: Item) -> None:
        """Compute an item; the worker is made here, so that its errors come back as they are."""
        if self._worker is None:
            self._worker = self._make_worker()
        self._worker(item)


@dataclass(kw_only=True)
class Lease:
    """An item that an actor computes."""

    actor: Any
    number: int
    """Index of the item."""
    since: float
    """Time at which it was given, of the monotonic clock."""
    ended: bool = False
    """True once the actor was ended because it took too long."""


class Pool(Generic[Item]):
    """Actors that are started as items need them, and kept until `close`."""

    def __init__(
        self,
        make_worker: Callable[[], Worker[Item]],
        asked: WorkerArguments,
        *,
        kind: Callable[[Item], str] = lambda item: "",
    ) -> None:
        """`make_worker` is called once in each actor, at its first item; items of a `kind` take
        about as long as each other."""
        self.make_worker, self.asked, self.kind = make_worker, asked, kind
        self.patience_s = START_SECONDS + asked.wait_s
        """Seconds without a worker after which the work is given up: lost nodes may come back."""
        self.group: WorkerGroup | None = None
        """Workers that the cluster gives; known once there is work."""
        self.starting: dict[Any, Any] = {}
        """Reference of `ready` -> actor."""
        self.leases: dict[Any, Lease] = {}
        """Reference of `run` -> what an actor computes."""
        self.idle: list[Any] = []
        self.failed_starts = 0
        self.seconds: dict[str, deque[float]] = {}
        """Times that the last items of each kind took."""

    @property
    def size(self) -> int:
        """Number of actors, those included that start."""
        return len(self.idle) + len(self.starting) + len(self.leases)

    def run(self, items: Sequence[Item], on_done: Callable[[Item], None]) -> None:
        """Compute all items, in any order; `on_done` is called in the driver after each.

        CapacityError when the cluster cannot give workers, WorkError when an item fails,
        WorkersLostError when workers keep dying.
        """
        if not items:
            return
        import ray

        self.group = self.group or self._admit()
        for _ in range(self.size, min(self.group.num_workers, len(items))):
            self._start()
        queue, losses = deque(range(len(items))), Counter[int]()
        left, alone_since = len(items), time.monotonic()
        while left:
            while queue and self.idle:
                actor, number = self.idle.pop(), queue.popleft()
                lease = Lease(actor=actor, number=number, since=time.monotonic())
                self.leases[actor.run.remote(items[number])] = lease
            self._end_late(items, losses)
            if self.leases:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self.patience_s:
                raise self._nobody_starts()
            references = [*self.leases, *self.starting]
            for reference in ray.wait(references, num_returns=1, timeout=POLL_SECONDS)[0]:
                if reference in self.starting:
                    self._settle_start(reference)
                elif (number := self._settle(reference, items, queue, losses)) is not None:
                    left -= 1
                    on_done(items[number])

    def close(self) -> None:
        """End the actors; Ray itself stays."""
        if not self.size:
            return
        import ray

        leased = [lease.actor for lease in self.leases.values()]
        for actor in [*self.idle, *self.starting.values(), *leased]:
            ray.kill(actor)
        self.idle, self.starting, self.leases = [], {}, {}

    def _admit(self) -> WorkerGroup:
        try:
            connect()
        except CapacityError as error:
            raise CapacityError(f"{error}, or use --num-workers 0 to do without") from error
        return wait_for(partial(pool_workers, self.asked), self.asked)

    def _start(self) -> None:
        import ray

        assert self.group is not None
        remote = ray.remote(_Actor).options(
            num_cpus=self.group.cpus_per_worker,
            num_gpus=1 if self.group.use_gpu else 0,
            max_restarts=0,
            max_task_retries=0,
            **preferred("evaluate on GPUs" if self.group.use_gpu else "evaluate"),
        )
        actor = remote.remote(self.make_worker)
        self.starting[actor.ready.remote()] = actor

    def _end_late(self, items: Sequence[Item], losses: Mapping[int, int]) -> None:
        """End actors whose items take too long; what they held then counts as lost with them.

        An item may take twice as long after each loss: one that is slow, and does not hang, ends.
        """
        import ray

        now = time.monotonic()
        for lease in self.leases.values():
            item = items[lease.number]
            most = limit(self.seconds.get(self.kind(item), ())) * 2 ** losses.get(lease.number, 0)
            if now - lease.since > most and not lease.ended:
                lease.ended = True
                logger.warning(
                    "%s takes more than %s, the limit by the items before it: its worker is ended",
                    item,
                    clock(most),
                )
                ray.kill(lease.actor)

    def _settle(
        self, reference: Any, items: Sequence[Item], queue: deque[int], losses: Counter[int]
    ) -> int | None:
        """Deal with the end of a lease; the number of the item that it finishes, if any."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        lease = self.leases.pop(reference)
        actor, number = lease.actor, lease.number
        try:
            ray.get(reference)
        except RayTaskError as error:
            self.idle.append(actor)
            raise WorkError(f"{items[number]}: {_message(error)}") from error
        except RayError as error:
            losses[number] += not _is_preempted(error)
            reason = _first_line(error).rstrip(".")
            logger.warning("lost a worker at %s (%s); it is replaced", items[number], reason)
            if losses[number] >= MOST_LOSSES:
                raise WorkersLostError(
                    f"{items[number]} has cost {count(MOST_LOSSES, 'worker')}, the last one so: "
                    f"{reason}. When memory is short, lower --batch-size or --num-workers."
                ) from error
            queue.appendleft(number)
            self._start()
            return None
        times = self.seconds.setdefault(self.kind(items[number]), deque(maxlen=RECENT_STEPS))
        times.append(time.monotonic() - lease.since)
        self.idle.append(actor)
        return number

    def _settle_start(self, reference: Any) -> None:
        import ray
        from ray.exceptions import RayError

        actor = self.starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            self.failed_starts += not _is_preempted(error)
            if self.failed_starts >= MOST_LOSSES:
                raise WorkersLostError(f"workers do not start: {_first_line(error)}") from error
            self._start()
            return
        self.failed_starts = 0
        self.idle.append(actor)
        if not self.starting:
            terminal.phase(f"{count(self.size, 'worker')} ready")

    def _nobody_starts(self) -> CapacityError:
        assert self.group is not None
        return CapacityError(
            f"no worker could start within {self.patience_s:.0f} s: each needs {self.group.each}, "
            f"and the cluster has {free_resources()}. Wait for other jobs, or set --wait-s for an "
            "autoscaling cluster."
        )


def _message(error: Any) -> str:
    """Message of the work's own error, without Ray's wrapping."""
    cause = getattr(error, "cause", None)
    if cause is None:
        return _first_line(error)
    text = str(cause)
    own = isinstance(cause, (ValueError, RuntimeError, OSError)) and text
    return text if own else f"{type(cause).__name__}: {text}"


def _is_preempted(error: BaseException) -> bool:
    """True for the end of a node that was taken with notice, of which no item is the cause."""
    return getattr(error, "preempted", False)


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
