"""Loss of the private cluster's own processes: the command ends with one line on what to do.

Ray 2.60 ends the driver of a lost raylet or GCS from inside, with a stack on the terminal and no
exception that Python could answer. A thread sees the loss first.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import psutil

from unite import logs, terminal
from unite.entry import FAILED

POLL_SECONDS = 0.05
PROCESSES = {"raylet": "raylet", "gcs_server": "GCS"}
"""Ray's name of a process that nothing goes on without -> its name in messages."""


def watch_head() -> None:
    """Watch the processes that `ray.init` has started, until Ray is shut down."""
    import ray
    from ray._private import worker

    # Ray has no public way to these; the pin on one Ray version is what makes it safe.
    node: Any = worker._global_node
    found = {
        said: node.all_processes[name][0].process
        for name, said in PROCESSES.items()
        if node is not None and name in node.all_processes
    }
    arguments = (found, ray.is_initialized, partial(_end, found))
    threading.Thread(target=watch, args=arguments, name="head", daemon=True).start()


def watch(
    processes: Mapping[str, Any], is_up: Callable[[], bool], end: Callable[[str], None]
) -> None:
    """Call `end` with the name of the first process that ends while Ray is up."""
    while True:
        gone = [name for name, process in processes.items() if process.poll() is not None]
        if not is_up():  # a shutdown says so before it ends its processes
            return
        if gone:
            return end(gone[0])
        time.sleep(POLL_SECONDS)


def message(name: str) -> str:
    """Line for a lost process."""
    return (
        f"Ray's {name} on this machine was killed (by hand, or for lack of memory): the same "
        f"command goes on from what is kept. Ray's own messages are in {logs.log_file()}"
    )


def _end(processes: Mapping[str, Any], name: str) -> None:
    """End this process and Ray's others at once: no call into Ray would return."""
    for process in processes.values():
        with contextlib.suppress(psutil.Error):
            head = psutil.Process(process.pid)
            for each in (*head.children(recursive=True), head):
                with contextlib.suppress(psutil.Error):
                    each.kill()
    print(f"error: {message(name)}", file=terminal.stream(), flush=True)
    sys.stdout.flush()
    os._exit(FAILED)
