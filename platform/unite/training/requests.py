"""Requests to a training that runs: to save, to make room, to end.

Rank 0 looks for them before each step, and its answer rides in the exchange of the losses, so that
all ranks save and leave after the same step. Sources are a file in the run's folder (a user's
stop), a notice that nodes go away, and a clock. None of them waits for anything.
"""

from __future__ import annotations

import enum
import functools
import logging
import operator
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from unite.storage import StorageError, Store
from unite.training.runs import stop_asked

logger = logging.getLogger(__name__)

STOP_POLL_SECONDS = 1.0
SPARE_SECONDS = 5.0
"""Seconds before the end of a node at which its ranks are gone, beside what they need to save."""
RECENT_STEPS = 10


class Request(enum.IntFlag):
    """Bits of what a step ends with; those of several requests join."""

    NONE = 0
    STOP = 1
    """Save and end the run."""
    SAVE = 2
    """Save and go on."""
    LEAVE = 4
    """Save and end this group of workers; the driver starts another."""
    MAKE_ROOM = 8
    """End this group at the next checkpoint, for a larger one."""


Source = Callable[[], Request]


def joined(*sources: Source) -> Source:
    """One source that asks for all that several ask for."""
    return lambda: functools.reduce(operator.or_, (source() for source in sources), Request.NONE)


def nothing() -> Request:
    """The source that never asks for anything."""
    return Request.NONE


class StopWatch:
    """STOP once the run's STOP file means this driver, or any.

    A thread looks, so that a step never waits; it ends with the watch.
    """

    def __init__(self, folder: Store, owner: str = "") -> None:
        self.folder = folder
        self.owner = owner
        self.found = False
        arguments = (weakref.ref(self),)
        threading.Thread(target=_watch, args=arguments, daemon=True, name="stop-watch").start()

    def __call__(self) -> Request:
        return Request.STOP if self.found else Request.NONE

    def look(self) -> bool:
        """Look for the file; True once it was there."""
        with suppress(StorageError):  # a store that hiccups is asked again
            self.found = stop_asked(self.folder, self.owner)
        return self.found


def _watch(kept: weakref.ref[StopWatch]) -> None:
    """Look every second, for as long as somebody else keeps the watch."""
    while True:
        time.sleep(STOP_POLL_SECONDS)
        watch = kept()
        if watch is None or watch.look():
            return
        del watch


class Interval:
    """SAVE once the last save began so many minutes ago; 0 = never."""

    def __init__(
        self,
        minutes: float,
        saved_at: Callable[[], float],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = 60 * minutes
        self.saved_at = saved_at
        self.now = now

    def __call__(self) -> Request:
        due = self.seconds and self.now() - self.saved_at() >= self.seconds
        return Request.SAVE if due else Request.NONE


@dataclass(frozen=True, kw_only=True)
class Notice:
    """Warning that nodes on which a group's ranks run go away."""

    deadline: float
    """Time at which the first of them is gone, in seconds since 1970; 0 = it is not told."""
    nodes: frozenset[str]
    """Identities of the nodes."""


def no_notice() -> Notice | None:
    """The look that never sees a notice."""
    return None


class NoticeWatch:
    """Answers notices: a save at once for each new one, and shortly before the first deadline
    another, with which the group leaves its nodes. Call it once before each step.

    "Shortly" is twice what a step and a save lately took, and `SPARE_SECONDS`. A notice without a
    time, or with less than that, makes the group leave at once.
    """

    def __init__(
        self,
        look: Callable[[], Notice | None],
        saving_seconds: Callable[[], float],
        now: Callable[[], float] = time.time,
    ) -> None:
        self.look = look
        self.saving_seconds = saving_seconds
        self.now = now
        self._answered: frozenset[str] = frozenset()
        self._steps: deque[float] = deque(maxlen=RECENT_STEPS)
        self._last = now()

    def __call__(self) -> Request:
        now = self.now()
        self._steps.append(now - self._last)
        self._last = now
        notice = self.look()
        if notice is None:
            return Request.NONE
        left = notice.deadline - now
        if left <= self.margin():
            return Request.LEAVE
        if notice.nodes <= self._answered:
            return Request.NONE
        self._answered |= notice.nodes
        logger.warning(
            "a node goes away in %.0f s: the run saves now, and again before it is gone", left
        )
        return Request.SAVE

    def margin(self) -> float:
        """Seconds before a deadline at which the group leaves."""
        return SPARE_SECONDS + 2 * (max(self._steps, default=0.0) + self.saving_seconds())
