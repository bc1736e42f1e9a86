"""Agent of a spot node: as soon as its cloud takes the machine back, its Ray node is drained.

Ray then schedules nothing new there, tells the runs that have workers there, and these save and
leave (`training/requests.py`). Open-source Ray has no such agent on single machines.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from unite import terminal
from unite.drivers.metadata import Cloud, MetadataError
from unite.network import persist

logger = logging.getLogger(__name__)

START_S = 60.0
"""Seconds in which a metadata service answers for the first time: agents start with their machine,
when it may be slow, and nobody starts one again."""
Drain = Callable[[float], None]
"""Drains this machine's node, which is gone at a time in seconds since 1970."""


def find_in_time(find: Callable[[], Cloud]) -> Cloud:
    """The cloud, asked for again while no service answers; MetadataError after START_S."""
    return persist(find, START_S, passing=_is_silent, doing="the agent of this machine")


def _is_silent(error: Exception) -> bool:
    return isinstance(error, MetadataError)


def watch(cloud: Cloud, drain: Drain, *, every_s: float, once: bool = False) -> bool:
    """Look until the machine is taken back, and drain then; True if it was.

    A service that does not answer for a while is asked again, with a warning; `once` looks once
    and raises its MetadataError. The drain is tried until it succeeds or the machine is gone; the
    last error is raised.
    """
    silent = False
    while True:
        try:
            ends = cloud.ends_at()
            silent = False
        except MetadataError as error:
            if once:
                raise
            if not silent:
                logger.warning("%s; asking on", error)
            ends, silent = None, True
        if ends is not None:
            _drain(drain, ends, every_s)
            terminal.tell(
                f"{cloud.name} takes this machine back in {max(ends - time.time(), 0):.0f} s: its "
                "node is drained, runs save and leave"
            )
            return True
        if once:
            return False
        time.sleep(every_s)


def _drain(drain: Drain, ends: float, every_s: float) -> None:
    while True:
        try:
            return drain(ends)
        except RuntimeError as error:
            if time.time() + every_s >= ends:
                raise
            logger.warning("%s; trying again", error)
        time.sleep(every_s)
