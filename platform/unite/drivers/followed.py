"""A training command in a process of its own, followed from outside through its run's folder."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from unite.checkpoints.layout import committed
from unite.cluster.connect import REPOSITORY
from unite.network import DeadlineError
from unite.storage import Store
from unite.training.progress import read_progress

LOCAL_LOOK_S, REMOTE_LOOK_S = 0.1, 1.0
PATIENCE_S = 900.0
"""Longest wait for anything that a run is to do, in seconds."""


@dataclass(frozen=True)
class Seen:
    """A state of progress.json."""

    time: float
    """Time of writing, seconds since 1970."""
    images: int


class Followed:
    """A training on a run's folder: the command may be typed several times."""

    def __init__(
        self, run: Store, flags: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.run, self.log, self.environment = run, log, environment
        self.command = [sys.executable, str(REPOSITORY / "jobs" / "train.py"), *flags]
        self.seen: list[Seen] = []
        """States in the order of writing."""
        self.typed = 0
        """Number of times that the command was started."""
        self.process: subprocess.Popen[bytes] | None = None
        self._look_s = LOCAL_LOOK_S if run.is_local else REMOTE_LOOK_S
        self._closed = threading.Event()
        self._eyes = threading.Thread(target=self._look, name="followed", daemon=True)
        self._eyes.start()

    def start(self) -> None:
        """Type the command."""
        self.typed += 1
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(
                self.command, cwd=REPOSITORY, env=self.environment, stdout=file, stderr=file
            )

    def until(self, reached: Callable[[], bool], doing: str) -> None:
        """Wait for a state; RuntimeError when the command ends before, DeadlineError when late."""
        deadline = time.monotonic() + PATIENCE_S
        while not reached():
            if self.ended() is not None:
                raise RuntimeError(f"the training ended while {doing}: {self.last_line()}")
            if time.monotonic() > deadline:
                raise DeadlineError(f"{doing} took more than {PATIENCE_S:g} s: see {self.log}")
            time.sleep(self._look_s)

    def until_between_saves(self, every: int) -> None:
        """Wait until two checkpoints are there and half of the way to the next one is done.

        On an object store the count of images is told too seldom for the second half.
        """

        def is_there() -> bool:
            saved = committed(self.run)
            if len(saved) < 2:
                return False
            return not self.run.is_local or self.images >= saved[-1] + every // 2

        self.until(is_there, "training up to the fault")

    @property
    def images(self) -> int:
        """Images of the newest state, 0 before the first one."""
        return self.seen[-1].images if self.seen else 0

    def ended(self) -> int | None:
        """Exit code of the command, None while it runs."""
        return self.process.poll() if self.process else None

    def wait(self) -> int:
        """The command's exit code, once it ends by itself; DeadlineError when that takes long."""
        assert self.process is not None
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired as error:
            raise DeadlineError(f"the training did not end: see {self.log}") from error

    def family(self) -> list[psutil.Process]:
        """The command's process and all below it, the command last."""
        if self.process is None or self.ended() is not None:
            return []
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.process.pid)
            return [*parent.children(recursive=True), parent]
        return []

    def last_line(self) -> str:
        """Last line that the command said."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def close(self) -> None:
        """End whatever of it still runs."""
        kill(self.family())
        if self.process is not None:
            self.process.wait(60)
        self._closed.set()
        self._eyes.join()

    def _look(self) -> None:
        while not self._closed.wait(self._look_s):
            found = read_progress(self.run)
            if found and {"time", "images"} <= set(found):
                state = Seen(time=found["time"], images=int(found["images"]))
                if not self.seen or state != self.seen[-1]:
                    self.seen.append(state)


def kill(processes: Sequence[psutil.Process]) -> None:
    """End processes at once, as `kill -9` does, and wait until they are gone."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(list(processes), timeout=30)
