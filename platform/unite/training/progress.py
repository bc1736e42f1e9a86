"""What a run is doing right now, as a small file in its folder that any process can read."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from unite.storage import StorageError, Store

FILE = "progress.json"
LOCAL_SECONDS = 1.0
REMOTE_SECONDS = 5.0


@dataclass(kw_only=True)
class ProgressWriter:
    """Writes <run>/progress.json at most once a second (object stores: every five)."""

    run: Store
    last: float = 0.0

    def write(self, state: str, values: Mapping[str, float], *, force: bool = False) -> None:
        """Publish the state (starting, training, evaluating, saving, done, stopped) and values."""
        now = time.monotonic()
        period = LOCAL_SECONDS if self.run.is_local else REMOTE_SECONDS
        if not force and now - self.last < period:
            return
        self.last = now
        self.run.write_json(FILE, {"state": state, "time": time.time(), **values})


def read_progress(run: Store) -> dict[str, Any] | None:
    """The last published progress of a run, or None when there is none yet."""
    try:
        return run.read_json(FILE) if run.exists(FILE) else None
    except StorageError:
        return None  # it is being replaced; the next look will find it
