"""Present state of a run, as a small file in its folder that any process can read."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unite.checkpoints.lease import Lease
from unite.storage import StorageError, Store
from unite.words import clock, count

logger = logging.getLogger(__name__)

FILE = "progress.json"
LOCAL_SECONDS = 1.0
REMOTE_SECONDS = 5.0
SHOWN = {
    "loss/total": "loss",
    "loss/l1": "l1",
    "loss/lpips": "lpips",
    "loss/flow": "flow",
}
"""Metric -> its name in a line of progress."""


@dataclass(kw_only=True)
class ProgressWriter:
    """Writes <run>/progress.json at most once a second (object stores: every five).

    A thread writes, so that a slow or full place costs the reader news and the training nothing.
    """

    run: Store
    lease: Lease = field(default_factory=Lease)
    noun: str = "image"
    """A sample in words."""
    workers: int = 1
    """Ranks that train."""
    last: float = 0.0
    _queue: queue.SimpleQueue[dict[str, Any] | None] = field(default_factory=queue.SimpleQueue)
    _thread: threading.Thread | None = None

    def write(self, state: str, values: Mapping[str, float], *, force: bool = False) -> None:
        """Publish the state (training, evaluating, done, stopped, leaving) and values."""
        now = time.monotonic()
        period = LOCAL_SECONDS if self.run.is_local else REMOTE_SECONDS
        if not force and now - self.last < period:
            return
        self.last = now
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="progress", daemon=True)
            self._thread.start()
        about = {"state": state, "time": time.time(), "noun": self.noun, "workers": self.workers}
        self._queue.put({**about, **values})

    def close(self) -> None:
        """Wait until the last published state is in the folder."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _work(self) -> None:
        """Write the newest document until None comes; older ones that still wait are dropped."""
        warned = closing = False
        while not closing:
            documents = [self._queue.get()]
            while not self._queue.empty():
                documents.append(self._queue.get())
            closing = None in documents
            newest = [document for document in documents if document is not None][-1:]
            try:
                for document in newest if self.lease.fresh else ():
                    self.run.write_json(FILE, document)
            except StorageError as error:
                if not warned:
                    logger.warning("progress is not shown, training goes on: %s", error)
                warned = True


def read_progress(run: Store) -> dict[str, Any] | None:
    """The last published progress of a run, or None when there is none yet."""
    try:
        return run.read_json(FILE, {"state": str}) if run.exists(FILE) else None
    except StorageError:
        return None  # it is being replaced; the next look will find it


def describe_progress(progress: dict[str, Any] | None) -> str:
    """One line: state, samples by their domain's noun, rate, losses, time left."""
    if progress is None:
        return "starting workers"
    total, images = progress.get("total_images", 0), progress.get("images", 0)
    noun = progress.get("noun", "image")
    parts = [f"{progress['state']}: {images:,}/{count(total, noun)}"]
    rate = progress.get("throughput/images_per_s", 0.0)
    if rate:
        parts.append(f"{rate:,.0f} {noun}s/s")
    parts += [f"{label} {progress[name]:.3f}" for name, label in SHOWN.items() if name in progress]
    if rate:
        parts.append(f"ETA {clock((total - images) / rate)}")
    return "  ".join(parts)
