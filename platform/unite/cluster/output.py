"""Ray's own lines go to the command's log file; of its workers, the user sees our warnings."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

from unite import logs, terminal

WORKER_HOOK = "unite.cluster.output.begin_worker"
"""Function that Ray calls in each worker process, as its `worker_process_setup_hook`."""
COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HANDLER = "ray_print_logs"
"""Ray's name for the handler that prints the lines of workers in the driver."""
EVENT = ":event_summary:"
"""Mark in the autoscaler's lines about events."""


def begin_worker() -> None:
    """Show this worker's warnings to the user, and let Ray's own questions go to its own cluster.

    Train's cleaner of placement groups looks for a cluster by the environment, then on the machine:
    of two on one machine it may find the other one, where nobody knows its run, and then leaves.
    """
    import ray

    logs.show_worker_warnings()
    os.environ["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    os.environ.pop("RAY_API_SERVER_ADDRESS", None)


def listen() -> None:
    """Take over from Ray the printing of lines from workers, autoscaler and nodes."""
    # Ray has no public way to do so; the pin on one Ray version is what makes it safe.
    from ray._private import worker
    from ray._private.ray_logging import global_worker_stdstream_dispatcher as lines

    listener = Listener()
    lines.remove_handler(HANDLER)
    lines.add_handler(HANDLER, listener.hear)
    # Errors of the raylet, such as a killed worker, do not pass the dispatcher.
    worker.print_to_stdstream = lambda batch, ignore_prefix=False: listener.hear(batch)


class Listener:
    """Sorts the lines of workers: all into the log file, marked ones to the user, each once."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def hear(self, batch: Mapping[str, Any]) -> None:
        """Sort some lines of one process."""
        speaker = batch.get("actor_name") or batch.get("task_name") or ""
        name = f"({speaker} pid={batch.get('pid')})".replace("( ", "(")
        lines = [COLOURS.sub("", str(line)) for line in batch.get("lines", ())]
        if batch.get("pid") == "autoscaler":  # it tells its state every five seconds
            lines = [line for line in lines if EVENT in line]
        logs.append("".join(f"{name} {line}\n" for line in lines))
        for line in lines:
            mark, found, text = line.partition(logs.MARK)
            if found and not mark and text not in self.told:
                self.told.add(text)
                terminal.tell(text)
