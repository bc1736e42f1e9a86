"""One writer per run: the second process waits until the first has ended.

A driver that is killed leaves its trials alive for moments, in which the same command, typed again,
would train beside them; two drivers may also want a run that their sweeps share. The lock is the
kernel's, so it goes with the process that holds it, however that ends, and nobody has to tell a
dead owner from a slow one. It reaches as far as the file system does; an object store has none.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from unite.storage import Store

logger = logging.getLogger(__name__)

FILE = "writer"
PATIENCE_SECONDS = 60.0
POLL_SECONDS = 0.2


class BusyError(ValueError):
    """Another process trains the run."""


@contextmanager
def sole_writer(run: Store, patience_s: float = PATIENCE_SECONDS) -> Iterator[None]:
    """Context that one process at a time holds for a run; BusyError when another keeps it."""
    if not run.is_local:
        yield
        return
    place = Path(run.path(FILE))
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.open("a+") as file:
        _wait(file, run, patience_s)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}")
        file.flush()
        yield


def _wait(file: IO[str], run: Store, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.seek(0)
                raise BusyError(
                    f"{run} is being trained by {file.read() or 'another process'}: wait until it "
                    "ends, or stop it. The same command goes on from its last checkpoint."
                ) from None
            time.sleep(POLL_SECONDS)
        except OSError as error:  # some network file systems are mounted without locks
            logger.warning("%s cannot be locked against a second writer: %s", run, error)
            return
