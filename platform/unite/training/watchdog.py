"""Watch over a rank that hangs: it says where, with its stack, and ends itself.

A thread sees that the count of images stands still for much longer than the run's own steps take,
and looks at what the training thread does by the functions that it is in. A rank that waits for
others, for data, storage or its device is not to blame, and only tells; one that is stuck in its
own computation ends its process, so that the group starts again. For how long a rank waits for
others follows from the same steps (`Watchdog.patience`).

On a GPU a rank does not wait for others itself: its device does, in the collectives that are
queued there, and the rank stops wherever the queue is full, in whatever it computes. So a rank
whose device is busy waits for it.

A library that holds the interpreter's lock stops that thread too: then a timer outside of Python
writes the stacks to the error stream and ends the process after SILENT_SECONDS. A process that does
not run at all (stopped, swapped out) has neither, and no stack can be had of it: Ray's health check
ends it, and the driver names its rank and node (`node_of`).
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import socket
import statistics
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from unite.storage import StorageError, Store
from unite.words import clock

logger = logging.getLogger(__name__)

FOLDER, LAST, RANKS = "hangs", "hangs/last.json", "hangs/ranks.json"
POLL_SECONDS = 1.0
FLOOR_SECONDS = 300.0
"""Deadline of a step that is usually fast."""
FACTOR = 20.0
"""Usual steps that one may take: evaluations and saves lie between some of them."""
MEASURED_STEPS = 5
"""Steps before the deadline is known: the first ones compile and fill caches."""
RECENT_STEPS = 50
SILENT_SECONDS = 120.0
"""Longest time in which no Python runs in a process; less than Ray's health check waits."""
ERRORS = 2
"""Number of the process's error stream, which Ray keeps and shows."""
EXIT_CODE = 70
COMPUTING = "computing"
DEVICE = "waiting for its device"
WAITS = {
    "average_": "waiting for the other ranks",
    "gather": "waiting for the other ranks",
    "finish": "waiting for the other ranks",
    "gathered": "waiting for the other ranks",
    "_require_insured": "waiting for room in the storage",
    "wait": "waiting for a checkpoint",
    "settle": "waiting for its device or a checkpoint's copy",
    "read": DEVICE,
    "_save": "saving",
    "_evaluate": "evaluating",
    "__next__": "waiting for data",
    "train_step": COMPUTING,
}
"""Function that is entered -> what the rank does; the first that is found in a stack counts."""


def doing(functions: Sequence[str]) -> str:
    """Words for what a thread does, by the names of the functions that it is in."""
    return next((words for name, words in WAITS.items() if name in functions), "outside a step")


def limit(seconds: Sequence[float]) -> float:
    """Seconds that a piece of work may take after others that took `seconds`; infinite while these
    are fewer than MEASURED_STEPS."""
    if len(seconds) < MEASURED_STEPS:
        return float("inf")
    return max(FLOOR_SECONDS, FACTOR * statistics.median(seconds))


class Watchdog:
    """Deadline of each step, from the steps before it."""

    def __init__(self, images: Callable[[], int], now: Callable[[], float] = time.monotonic):
        self.images = images
        self.now = now
        self.told = False
        self._seen, self._since = images(), now()
        self._steps: deque[float] = deque(maxlen=RECENT_STEPS)
        self._longest = 0.0

    @property
    def deadline(self) -> float:
        """Seconds that a step may take; infinite until some are measured."""
        return limit(self._steps)

    @property
    def patience(self) -> float:
        """Seconds that a rank waits for others; infinite until it is known. Evaluations and saves
        lie in some steps: it is never less than twice the longest."""
        return max(self.deadline, 2 * self._longest)

    def late(self) -> float:
        """Seconds that the step takes which is past its deadline; 0 = none is. Call it often."""
        seconds = self.now() - self._since
        if self.images() != self._seen:
            self._steps.append(seconds)
            self._longest = max(self._longest, seconds)
            self._seen, self._since, self.told = self.images(), self.now(), False
            return 0.0
        return seconds if seconds > self.deadline else 0.0


@contextmanager
def watched(
    run: Store,
    rank: int,
    images: Callable[[], int],
    wait_at_most: Callable[[float], None] = lambda seconds: None,
    is_busy: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Context in which this thread trains, and is watched.

    `wait_at_most` is told for how many seconds this rank is to wait for others, when it changes.
    `is_busy` tells whether the rank's device has work that is not done.
    """
    over, thread = threading.Event(), threading.get_ident()
    dog = Watchdog(images)

    def watch() -> None:
        """Look for a late step until the training ends."""
        patience = float("inf")
        while not over.wait(POLL_SECONDS):
            faulthandler.dump_traceback_later(SILENT_SECONDS, exit=True, file=ERRORS)
            if (seconds := dog.late()) and not over.is_set():
                _tell(run, rank, thread, dog, seconds, is_busy)
            if dog.patience != patience:
                patience = dog.patience
                wait_at_most(patience)

    watcher = threading.Thread(target=watch, name="watchdog", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join(10 * POLL_SECONDS)
        faulthandler.cancel_dump_traceback_later()


def _tell(
    run: Store,
    rank: int,
    thread: int,
    dog: Watchdog,
    seconds: float,
    is_busy: Callable[[], bool],
) -> None:
    """Tell once of a late step; end the process if this rank is what hangs."""
    frames: dict[int, Any] = sys._current_frames()
    stack = traceback.extract_stack(frames[thread]) if thread in frames else []
    state = doing([frame.name for frame in stack])
    if state == COMPUTING and is_busy():
        state = DEVICE
    if dog.told and state != COMPUTING:
        return
    dog.told = True
    line = (
        f"rank {rank} on {socket.gethostname()} has been {clock(seconds)} in the step after "
        f"{dog.images()} images, where {clock(dog.deadline)} is the limit by its own steps: {state}"
    )
    logger.error("%s", line)
    stacks = "".join(
        f"\nThread {name}:\n{''.join(traceback.format_stack(frame))}"
        for name, frame in frames.items()
    )
    try:
        run.write(f"{FOLDER}/rank-{rank}.txt", f"{line}\n{stacks}".encode())
        if state == COMPUTING:
            run.write_json(LAST, {"line": line})
    except StorageError as error:
        logger.error("its stack is not kept: %s%s", error, stacks)
    if state == COMPUTING:
        os._exit(EXIT_CODE)


def note_nodes(run: Store, nodes: Sequence[str]) -> None:
    """Note the node of each rank, in rank order, for whoever is to name one that fell silent."""
    try:
        run.write_json(RANKS, list(nodes))
    except StorageError as error:
        logger.warning("a rank that hangs will be named without its node: %s", error)


def node_of(run: Store, rank: int) -> str:
    """Name of the node on which a rank of the last group ran; empty when it is not known."""
    try:
        return str(json.loads(run.read(RANKS))[rank])
    except (StorageError, OSError, ValueError, LookupError, TypeError):
        return ""


def hang_told(run: Store) -> str:
    """Line on the rank that ended itself because it hung, told once; empty when none did."""
    try:
        if not run.is_file(LAST):
            return ""
        line = str(json.loads(run.read(LAST))["line"])
        run.delete(LAST)
    except (StorageError, ValueError, KeyError, TypeError):
        return ""
    return f"{line}. Stacks of all ranks are in {run}/{FOLDER}"
