"""A process that answers tasks of a module, one JSON line each way; `isolated` starts and ends it.

Packages may print: what they write to the standard output goes to the error stream instead. The
system kills the process when a task takes more CPU seconds than its request allows, in compiled
code too: CPU time, so that a busy machine makes no structure invalid.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module


def main(module: str) -> None:
    """Answer with `TASKS` of the module until the input ends."""
    tasks = import_module(module).TASKS
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, request["limit_s"])
        try:
            verdict = tasks[request["task"]](request["fields"])
        except Exception as error:  # A verdict on one structure ends no other's.
            verdict = {"error": f"{type(error).__name__}: {error}"}
        signal.setitimer(signal.ITIMER_PROF, 0)
        answers.write(json.dumps(verdict) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
