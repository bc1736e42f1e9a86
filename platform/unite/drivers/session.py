"""A session of evaluation work: workers, the progress line, and how it ends.

All finished work is kept: after Ctrl-C, lost workers or a killed driver the same command
finishes the rest.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from rich.console import Console

from unite.cluster.connect import CapacityError
from unite.cluster.pool import Executor, Fleet, Here, Wish, Worker
from unite.drivers.meter import Meter
from unite.evaluation.arguments import WorkerArguments
from unite.evaluation.images.preparation import Run
from unite.evaluation.instruments import Instruments
from unite.evaluation.task import Work, do

CPU_BATCH, GPU_BATCH = 250, 128


@contextmanager
def session(arguments: WorkerArguments, console: Console) -> Iterator[Run]:
    """Context with a function that computes work on the requested workers, freed at the end.

    CapacityError when there is no GPU or CPU for them. KeyboardInterrupt, also on SIGTERM, after
    saying what is kept.
    """
    executor = _executor(arguments)
    progress = {"left": 0}

    def run(title: str, works: Sequence[Work]) -> None:
        """Compute the unfinished work."""
        left = [work for work in works if not work.finished]
        if not left:
            return
        progress["left"] = len(left)
        with Meter(title, left, console) as meter:
            executor.run(left, partial(_count, meter, progress))

    try:
        with _terminable():
            yield run
    except KeyboardInterrupt:
        console.print(
            f"stopped with {progress['left']} pieces of work unfinished. What is finished is kept; "
            "the same command goes on from there.",
            soft_wrap=True,
        )
        raise
    finally:
        executor.close()


def _count(meter: Meter, progress: dict[str, int], work: Work) -> None:
    progress["left"] -= 1
    meter.done(work)


def _executor(arguments: WorkerArguments) -> Executor[Work]:
    batch = arguments.batch_size or (GPU_BATCH if arguments.use_gpu else CPU_BATCH)
    make = partial(make_worker, arguments.use_gpu, batch)
    if arguments.num_workers == 0:
        _device(arguments.use_gpu)
        return Here(make)
    wish = Wish(
        num_workers=arguments.num_workers, use_gpu=arguments.use_gpu, wait_s=arguments.wait_s
    )
    return Fleet(make, wish)


def make_worker(use_gpu: bool, batch_size: int) -> Worker[Work]:
    """Worker: a function that computes work in one process.

    A worker without a GPU has one thread: that is what it reserves, and sums then do not depend on
    how many cores a node has.
    """
    device = _device(use_gpu)
    if not use_gpu:
        torch.set_num_threads(1)
    return partial(do, instruments=Instruments(device=device, batch_size=batch_size))


def _device(use_gpu: bool) -> torch.device:
    if use_gpu and not torch.cuda.is_available():
        raise CapacityError("--use-gpu: there is no CUDA device here; drop it, or use a GPU node")
    return torch.device("cuda" if use_gpu else "cpu")


@contextmanager
def _terminable() -> Iterator[None]:
    """Context in which SIGTERM (a stopped Ray job, a preempted node) ends like Ctrl-C.

    Ctrl-C is set too: after a training run in the same process Ray's own handler is left there.
    """

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's business
        return
    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
