"""The background thread that copies a spool to MLflow: one request per beat, never more.

Training only ever appends to the spool. A server that is slow, frozen or gone makes this thread
wait, and nothing else; what it could not send by the end stays in the spool.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable

from unite.tracking.delivery import Delivery
from unite.tracking.server import reason_of, turn
from unite.tracking.spool import Spool

logger = logging.getLogger(__name__)

RESTS, LONGEST_REST_S = 10.0, 60.0
"""Pause after a request in units of its duration, and at most in seconds."""
LONGEST_CLOSE_S = 300.0
"""Seconds for which the rest is sent to a server that goes on taking some of it."""
RETRY_PAUSE_S = 0.5
LONGEST_PAUSE_S = 5.0
"""Longest pause after failures in a row, in seconds. Pauses are random: many runs that end at once
must not come back at once to a server that has too much to do."""


def rest_after(took_s: float, interval_s: float) -> float:
    """Seconds until the next request: the interval, or more after one that took long.

    Of a server that answers late all ask less often, and what waits goes in fewer requests.
    """
    return max(interval_s, min(RESTS * took_s, LONGEST_REST_S))


class Sender(threading.Thread):
    """Makes one step of `delivery` every `interval_s`, or less often, until it is closed."""

    def __init__(
        self,
        spool: Spool,
        delivery: Delivery,
        *,
        interval_s: float,
        before_beat: Callable[[], None],
    ) -> None:
        super().__init__(name="unite-tracking", daemon=True)
        self._spool = spool
        self._delivery = delivery
        self._interval_s = interval_s
        self._before_beat = before_beat
        self._closing = threading.Event()
        self._patience_s = self._deadline = self._last_deadline = float("inf")
        self._warned = False
        self._down = False

    def run(self) -> None:
        """Beat until closed, then send the rest until the deadline, of a slow server in turn."""
        self._guarded(self._delivery.connect)
        took = 0.0
        rest = self._interval_s * random.random()  # runs that begin together take turns
        while not self._closing.wait(rest):
            self._guarded(self._before_beat)
            began = time.monotonic()
            answered = self.beat()
            spent = time.monotonic() - began
            rest, took = rest_after(spent, self._interval_s), spent if answered else 0.0
        wait = turn(took, self._patience_s / 2) if self._delivery.pending() else 0.0
        self._deadline += wait
        time.sleep(wait)
        pause = RETRY_PAUSE_S
        while self._delivery.pending() and (left := self._deadline - time.monotonic()) > 0:
            if self.beat():
                self._deadline = min(time.monotonic() + self._patience_s, self._last_deadline)
                pause = RETRY_PAUSE_S
                continue
            time.sleep(min(left, pause * random.uniform(0.5, 1.0)))
            pause = min(2 * pause, LONGEST_PAUSE_S)

    def beat(self) -> bool:
        """Make at most one request; False when it failed or when there was nothing to send."""
        done = self._guarded(self._delivery.step)
        if done and self._down and not self._delivery.pending():
            self._down = False
            logger.info("MLflow answers again and has everything")
        return bool(done)

    def close(self, timeout_s: float) -> None:
        """Send the rest while the server takes some of it every `timeout_s` seconds.

        A warning names the file of what is not sent.
        """
        self._patience_s = timeout_s
        self._deadline = time.monotonic() + timeout_s
        self._last_deadline = time.monotonic() + max(timeout_s, LONGEST_CLOSE_S)
        self._closing.set()
        while self.is_alive() and ((left := self._deadline + RETRY_PAUSE_S - time.monotonic()) > 0):
            self.join(left)
        if not self.is_alive() and not self._delivery.pending():
            return
        self._down = self._warned = True  # what a hanging request says later is no news
        points, files = self._delivery.count()
        logger.warning(
            "MLflow did not take %d points and %d files; they are kept in %s. Send them with: "
            "unite mlflow push %s",
            points,
            files,
            self._spool.points_file,
            self._spool.points_file,
        )

    def _guarded(self, call: Callable[[], object]) -> object:
        try:
            return call()
        except Exception as error:  # whatever mlflow, the network or the disk raises
            self._note_failure(error)
            return False

    def _note_failure(self, error: Exception) -> None:
        level = logging.WARNING if not self._warned else logging.INFO
        level = logging.DEBUG if self._down else level
        self._down = self._warned = True
        logger.log(
            level,
            "MLflow does not take metrics: %s. Training goes on; they are kept in %s and sent "
            "when it answers",
            reason_of(error),
            self._spool.points_file,
        )
