"""SIGINT and SIGTERM of every job: Ctrl-C, a stopped Ray job, a node that goes away."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

logger = logging.getLogger(__name__)

AGAIN_S = 5.0
"""Seconds between two tries to ask where a storage does not take it."""


@contextmanager
def stop_on_signals(ask: Callable[[], object] | None = None, told: str = "") -> Iterator[None]:
    """Context in which the first signal calls `ask`, which makes the work save and end.

    `told` is what the user hears then. The second signal, or the first without `ask`, ends the
    work at once: KeyboardInterrupt. Other threads than the main one have no signals. Where `ask`
    fails with an OSError, as on a storage that is away, it is called again until it does not.
    """
    asked = ask is None

    def handle(number: int, frame: Any) -> None:
        """Ask once; KeyboardInterrupt from then on."""
        nonlocal asked
        if asked or ask is None:
            raise KeyboardInterrupt
        asked = True
        logger.warning("%s (Ctrl-C once more ends it at once)", told)
        try:
            ask()
        except OSError as error:
            logger.warning("it cannot be asked yet, which is tried again: %s", error)
            threading.Thread(target=_ask_again, args=(ask,), name="ask", daemon=True).start()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ask_again(ask: Callable[[], object]) -> None:
    while True:
        time.sleep(AGAIN_S)
        with suppress(OSError):
            ask()
            return
