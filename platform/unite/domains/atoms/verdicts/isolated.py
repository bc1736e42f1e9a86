"""Chemistry in processes of its own, with a limit for each structure.

Bond-order search can take forever on garbage, and compiled packages can crash: a worker that takes
too long, or ends twice, is replaced, and its structure gets an `error`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unite.domains.atoms.verdicts.chemistry import ANSWERS, NEEDS, PROBE, Verdict

LIMIT_S = 5.0
"""CPU seconds that one structure may take."""
START_S = 60.0
"""CPU seconds that a worker's first answer may take: importing the packages is in it."""
STUCK = 60.0
"""Wall seconds for each CPU second, after which a worker that waits for something is killed."""
MODULE = "unite.domains.atoms.verdicts.chemistry"
"""Module with the tasks."""
TIMEOUT = "timeout"
"""Error of a structure that took too long."""
CRASHED = "the process ended"
"""Error of a structure on which two workers died."""


class Worker:
    """A process of `worker`, started at the first question and again after it was killed."""

    def __init__(self, limit_s: float = LIMIT_S, module: str = MODULE) -> None:
        self._limit_s, self._module = limit_s, module
        self._process: subprocess.Popen[bytes] | None = None
        self._answered = False

    @classmethod
    def of(cls, task: str) -> Worker:
        """A worker that has judged a known structure rightly.

        ValueError where it has not: a package that is there and does not work would make every
        structure invalid.
        """
        worker = cls()
        found = worker.ask(task, PROBE)
        answer = found.get(ANSWERS[task])
        if answer is None or answer is False:
            worker.close()
            packages = ", ".join(NEEDS[task])
            raise ValueError(
                f"{packages} cannot be used here: asked for {task!r} of water it gives {found}; "
                f"install {packages} anew"
            )
        return worker

    def ask(self, task: str, fields: Mapping[str, Any]) -> Verdict:
        """The verdict on one structure (`chemistry.fields_of`), or its `error`: the limit of CPU
        seconds passed, the process died or the task raised.

        A process that dies within its limit may have been killed by somebody: it is asked for a
        second time, so that only a structure that ends two processes has an error.
        """
        verdict = self._ask(task, fields)
        return self._ask(task, fields) if verdict == {"error": CRASHED} else verdict

    def _ask(self, task: str, fields: Mapping[str, Any]) -> Verdict:
        process = self._process or self._start()
        assert process.stdin and process.stdout
        limit_s = self._limit_s if self._answered else max(START_S, self._limit_s)
        line = json.dumps({"task": task, "fields": fields, "limit_s": limit_s}) + "\n"
        try:
            process.stdin.write(line.encode())
            process.stdin.flush()
        except BrokenPipeError:
            return self._failed()
        if not _ready(process.stdout.fileno(), STUCK * limit_s):
            self.close()
            return {"error": TIMEOUT}
        answer = process.stdout.readline()
        if not answer.endswith(b"\n"):
            return self._failed()
        self._answered = True
        return json.loads(answer)

    def close(self) -> None:
        """Kill the process."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    __del__ = close

    def _start(self) -> subprocess.Popen[bytes]:
        source = str(Path(__file__).parents[4])
        path = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        self._process = subprocess.Popen(
            [sys.executable, "-m", "unite.domains.atoms.verdicts.worker", self._module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        self._answered = False
        return self._process

    def _failed(self) -> Verdict:
        """The error of a process that ended by itself, or by the limit."""
        process, self._process = self._process, None
        assert process
        process.communicate()
        return {"error": TIMEOUT if process.returncode == -signal.SIGPROF else CRASHED}


def _ready(descriptor: int, limit_s: float) -> bool:
    """True once there is something to read."""
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, selectors.EVENT_READ)
        return bool(selector.select(limit_s))
