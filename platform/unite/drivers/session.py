"""A session of evaluation work: workers, the progress line, and how it ends.

All finished work is kept: after Ctrl-C, lost workers or a killed driver the same command
finishes the rest.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Generic

import torch

from unite import terminal
from unite.cluster.connect import CapacityError
from unite.cluster.pool import Item, Pool, Worker
from unite.drivers.progress import Meter, progress_line
from unite.drivers.signals import stop_on_signals
from unite.evaluation.arguments import WorkerArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.instruments import Instruments
from unite.evaluation.suite import Run, WorkItem
from unite.network import persist
from unite.objects import is_away
from unite.sampling.precision import card_batch, device_memory
from unite.words import count

CPU_BATCH = 250
AWAY_S = 240.0
"""Seconds that a worker waits for an object store; less than the limit of an item that hangs."""


@contextmanager
def session(arguments: WorkerArguments) -> Iterator[Run]:
    """Context with a function that computes work on the requested workers, freed at the end.

    Results that were kept before and cannot be read are told and computed again.
    CapacityError when there is no GPU or CPU for them. KeyboardInterrupt, also on SIGTERM, after
    saying what is kept.
    """
    workers = Workers(arguments)
    meter, known = Meter("", ()), set[tuple[str, Chunk]]()

    def run(title: str, works: Sequence[WorkItem]) -> None:
        """Compute the unfinished work."""
        nonlocal meter
        for work in works:
            if work.place not in known and (why := work.discard_damaged()):
                terminal.tell(why)
        known.update(work.place for work in works)
        if not (left := [work for work in works if not work.finished]):
            return
        meter = Meter(title, left)
        try:
            starting = f"{title}: starting workers"
            with progress_line(starting, meter.total_cost, transient=True) as show:
                workers.run(left, lambda work: show(meter.add(work), meter.cost))
        finally:
            terminal.tell(meter.describe())

    try:
        with stop_on_signals():
            yield run
    except KeyboardInterrupt:
        terminal.tell(
            f"stopped with {count(meter.total_pieces - meter.pieces, 'piece')} of work unfinished. "
            "What is finished is kept; the same command goes on from there."
        )
        raise
    finally:
        workers.close()


def _kind(item: WorkItem) -> str:
    return item.task.suite


class Workers:
    """The workers of a session. Beside workers with a GPU, work that needs none has its own, one
    for each CPU; those of one kind end before the other kind's start, so that each has the CPUs."""

    def __init__(self, arguments: WorkerArguments) -> None:
        """CapacityError where this process is to do without workers and lacks the GPU."""
        make = functools.partial(make_worker, arguments.use_gpu, arguments.batch_size)
        self.usual: Pool[WorkItem] | InProcess[WorkItem] = Pool(make, arguments, kind=_kind)
        if arguments.num_workers == 0:
            _device(arguments.use_gpu)
            self.usual = InProcess(make)
        self.on_cpus = None
        if arguments.use_gpu and arguments.num_workers != 0:
            plain = replace(arguments, use_gpu=False, num_workers=None, batch_size=0)
            self.on_cpus = Pool(functools.partial(make_worker, False, 0), plain, kind=_kind)

    def run(self, items: Sequence[WorkItem], on_done: Callable[[WorkItem], None]) -> None:
        """Compute all items; errors as of `Pool.run`."""
        if self.on_cpus is None:
            self.usual.run(items, on_done)
            return
        if on_gpus := [item for item in items if not item.task.on_cpu]:
            self.on_cpus.close()
            self.usual.run(on_gpus, on_done)
        if plain := [item for item in items if item.task.on_cpu]:
            self.usual.close()
            self.on_cpus.run(plain, on_done)

    def close(self) -> None:
        """End the workers."""
        self.usual.close()
        if self.on_cpus:
            self.on_cpus.close()


class InProcess(Generic[Item]):
    """Stands in for a pool: computes items in this process, one after the other."""

    def __init__(self, make_worker: Callable[[], Worker[Item]]) -> None:
        self.make_worker = functools.cache(make_worker)

    def run(self, items: Sequence[Item], on_done: Callable[[Item], None]) -> None:
        """Compute all items in their order."""
        for item in items:
            self.make_worker()(item)
            on_done(item)

    def close(self) -> None:
        """Forget the worker, and with it its models."""
        self.make_worker.cache_clear()


def make_worker(use_gpu: bool, batch_size: int) -> Worker[WorkItem]:
    """Worker: a function that computes work in one process; `batch_size` 0 = by the device.

    A worker without a GPU has one thread: that is what it reserves, and sums then do not depend on
    how many cores a node has.
    """
    device = _device(use_gpu)
    if not use_gpu:
        torch.set_num_threads(1)
    usual = card_batch(device_memory(device)) if use_gpu else CPU_BATCH
    batch_size = batch_size or usual
    return functools.partial(compute, Instruments(device=device, batch_size=batch_size))


def compute(instruments: Instruments, item: WorkItem) -> None:
    """Compute an item; an object store that is away is asked again for AWAY_S."""
    persist(
        functools.partial(item.compute, instruments=instruments),
        AWAY_S,
        passing=is_away,
        doing=str(item),
    )


def _device(use_gpu: bool) -> torch.device:
    if use_gpu and not torch.cuda.is_available():
        raise CapacityError("--use-gpu: there is no CUDA device here; drop it, or use a GPU node")
    return torch.device("cuda" if use_gpu else "cpu")
