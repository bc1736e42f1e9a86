"""Leased pieces of work over Ray actors: each item is computed once, whatever happens to workers.

The driver owns the queue and leases one item at a time to each actor. An actor that dies (killed,
out of memory, its spot node gone) gives its item back to the queue and is replaced; an exception of
the work itself would only repeat, and ends the job at once. Results do not travel: workers keep
them, and check first whether an item is finished already.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from unite import terminal
from unite.cluster.connect import Allotment, CapacityError, connect, describe_cluster
from unite.words import count

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Numbered = tuple[int, Item]
Worker = Callable[[Item], None]
"""Function that computes an item and keeps the result."""

MOST_LOSSES = 3
"""Number of workers lost to one item after which the item is held responsible."""
START_SECONDS = 180.0
"""Seconds of waiting for the first worker, or for a replacement when none is left."""
POLL_SECONDS = 1.0
GPU_WORKER_CPUS = 1.0
"""CPUs per GPU worker, for decoding and feeding."""


class WorkError(RuntimeError):
    """An item raised an error of its own; the message names the item and carries the error's."""


class WorkersLostError(RuntimeError):
    """Workers keep dying; the message names the item."""


class Executor(Protocol[Item]):
    """Runner of items, in this process or on Ray."""

    def run(self, items: Sequence[Item], on_done: Callable[[Item], None]) -> None:
        """Compute all items, in any order; `on_done` is called in the driver after each."""
        ...

    def close(self) -> None:
        """Free the reserved resources."""
        ...


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Resources that are requested from the cluster."""

    num_workers: int | None = None
    """Number of workers; None = one per GPU with `use_gpu`, else one per CPU."""
    use_gpu: bool = False
    wait_s: float = 0.0
    """Seconds to wait for an autoscaling cluster."""


@dataclass
class Here(Generic[Item]):
    """Runs items in this process, one after the other."""

    make_worker: Callable[[], Worker[Item]]
    _worker: Worker[Item] | None = None

    def run(self, items: Sequence[Item], on_done: Callable[[Item], None]) -> None:
        """Compute all items in their order."""
        for item in items:
            if self._worker is None:
                self._worker = self.make_worker()
            self._worker(item)
            on_done(item)

    def close(self) -> None:
        """Drop the worker."""
        self._worker = None


@dataclass
class Fleet(Generic[Item]):
    """Runs items on Ray actors, which are started as items need them and kept until `close`."""

    make_worker: Callable[[], Worker[Item]]
    """Maker of the worker, called once in each actor, at its first item."""
    wish: Wish = field(default_factory=Wish)
    allotment: Allotment | None = None
    _crew: _Crew[Item] | None = None

    def run(self, items: Sequence[Item], on_done: Callable[[Item], None]) -> None:
        """Compute all items.

        CapacityError when the cluster cannot give workers, WorkError when an item fails,
        WorkersLostError when workers keep dying.
        """
        if not items:
            return
        if self._crew is None:
            _connect()
            self.allotment = admit(self.wish)
            self._crew = _Crew(self.make_worker, self.allotment)
        self._crew.run(items, on_done)

    def close(self) -> None:
        """End the actors; Ray itself stays."""
        if self._crew is not None:
            self._crew.close()
            self._crew = None


def _connect() -> None:
    """Join or start Ray; CapacityError when that fails."""
    try:
        connect()
    except CapacityError as error:
        raise CapacityError(f"{error}, or use --num-workers 0 to do without") from error


def admit(wish: Wish) -> Allotment:
    """Workers that the joined cluster can give, waiting up to `wait_s` for it to grow."""
    deadline = time.monotonic() + wish.wait_s
    if wish.wait_s:
        _request(wish)
    while True:
        try:
            return allot(wish, describe_cluster())
        except CapacityError:
            if time.monotonic() >= deadline:
                raise
            time.sleep(POLL_SECONDS)


def allot(wish: Wish, have: dict[str, float]) -> Allotment:
    """The pure rule behind `admit`: `have` holds the cluster's total CPU and GPU."""
    unit = "GPU" if wish.use_gpu else "CPU"
    most = int(have[unit])
    if wish.use_gpu and most:
        most = min(most, int(have["CPU"] / GPU_WORKER_CPUS))
    workers = wish.num_workers or most
    if workers > most or most < 1:
        raise CapacityError(
            f"--num-workers {wish.num_workers or 'one'} with one {unit} each, but the cluster has "
            f"{count(have['GPU'], 'GPU')} and {count(have['CPU'], 'CPU')}: it would wait for ever. "
            + ("Lower --num-workers" if most else "Drop --use-gpu, or use --num-workers 0")
            + ", or set --wait-s for an autoscaling cluster."
        )
    cpus = GPU_WORKER_CPUS if wish.use_gpu else 1.0
    return Allotment(num_workers=workers, cpus_per_worker=cpus, use_gpu=wish.use_gpu)


def _request(wish: Wish) -> None:
    from ray.autoscaler.sdk import request_resources

    bundle: dict[str, float] = {"CPU": 1}
    if wish.use_gpu:
        bundle["GPU"] = 1
    request_resources(bundles=[bundle] * (wish.num_workers or 1))


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


class _Crew(Generic[Item]):
    """The actors, with the item that each one holds."""

    def __init__(self, make_worker: Callable[[], Worker[Item]], allotment: Allotment) -> None:
        import ray
        import ray.exceptions

        self.ray = ray
        self.make_worker = make_worker
        self.allotment = allotment
        self.remote = ray.remote(_Actor).options(
            num_cpus=allotment.cpus_per_worker,
            num_gpus=1 if allotment.use_gpu else 0,
            max_restarts=0,
            max_task_retries=0,
        )
        self.starting: dict[Any, Any] = {}
        """Reference of `ready` -> actor."""
        self.leases: dict[Any, tuple[Any, Numbered[Item]]] = {}
        """Reference of `run` -> (actor, item with its number)."""
        self.idle: list[Any] = []
        self.failed_starts = 0

    def run(self, items: Sequence[Item], on_done: Callable[[Item], None]) -> None:
        """Compute all items on as many actors as there is work for."""
        have = len(self.idle) + len(self.starting)
        for _ in range(have, min(self.allotment.num_workers, len(items))):
            self._start()
        queue = deque(enumerate(items))
        losses: Counter[int] = Counter()
        left, alone_since = len(items), time.monotonic()
        while left:
            self._lease(queue)
            if self.leases:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > START_SECONDS:
                raise self._nobody_starts()
            references = [*self.leases, *self.starting]
            done, _ = self.ray.wait(references, num_returns=1, timeout=POLL_SECONDS)
            for reference in done:
                number = self._settle(reference, queue, losses)
                if number is not None:
                    left -= 1
                    on_done(items[number])

    def close(self) -> None:
        held = [actor for actor, _ in self.leases.values()]
        for actor in [*self.idle, *self.starting.values(), *held]:
            self.ray.kill(actor)
        self.idle, self.starting, self.leases = [], {}, {}

    def _start(self) -> None:
        actor = self.remote.remote(self.make_worker)
        self.starting[actor.ready.remote()] = actor

    def _lease(self, queue: deque[Numbered[Item]]) -> None:
        while queue and self.idle:
            actor, numbered = self.idle.pop(), queue.popleft()
            self.leases[actor.run.remote(numbered[1])] = (actor, numbered)

    def _settle(
        self, reference: Any, queue: deque[Numbered[Item]], losses: Counter[int]
    ) -> int | None:
        """Deal with an answer; the number of the item that it finishes, if any."""
        if reference in self.starting:
            self._settle_start(reference)
            return None
        actor, (number, item) = self.leases.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            self.idle.append(actor)
            raise WorkError(f"{item}: {_message(error)}") from error
        except self.ray.exceptions.RayError as error:
            losses[number] += 1
            reason = _first_line(error)
            logger.warning("lost a worker at %s (%s); it is replaced", item, reason)
            if losses[number] >= MOST_LOSSES:
                raise WorkersLostError(
                    f"{item} has cost {count(MOST_LOSSES, 'worker')}, the last one so: {reason}. "
                    "When "
                    "memory is short, lower --batch-size or --num-workers."
                ) from error
            queue.appendleft((number, item))
            self._start()
            return None
        self.idle.append(actor)
        return number

    def _settle_start(self, reference: Any) -> None:
        actor = self.starting.pop(reference)
        try:
            self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts >= MOST_LOSSES:
                raise WorkersLostError(f"workers do not start: {_first_line(error)}") from error
            self._start()
            return
        self.failed_starts = 0
        self.idle.append(actor)
        if not self.starting:
            terminal.phase(f"{count(len(self.idle) + len(self.leases), 'worker')} ready")

    def _nobody_starts(self) -> CapacityError:
        free = self.ray.available_resources()
        return CapacityError(
            f"no worker could start within {START_SECONDS:.0f} s: each needs "
            f"{count(self.allotment.cpus_per_worker, 'CPU')}"
            f"{' and a GPU' if self.allotment.use_gpu else ''}, and the cluster has "
            ""
            f"{count(free.get('CPU', 0), 'CPU')} and {count(free.get('GPU', 0), 'GPU')} free. Wait "
            "for other "
            "jobs, or set --wait-s for an autoscaling cluster."
        )


def _message(error: Any) -> str:
    """Message of the work's own error, without Ray's wrapping."""
    cause = getattr(error, "cause", None)
    if cause is None:
        return _first_line(error)
    text = str(cause)
    own = isinstance(cause, (ValueError, RuntimeError, OSError)) and text
    return text if own else f"{type(cause).__name__}: {text}"


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[0].strip() if lines else type(error).__name__
