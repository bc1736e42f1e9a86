"""Tracker of rank 0: metrics, images and artifacts, kept locally and copied to MLflow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from unite.metrics.specs import logged
from unite.runs import METRICS_FILE, MetricsLog
from unite.storage import Store
from unite.tracking.delivery import Delivery
from unite.tracking.images import check_image, encode_image
from unite.tracking.presentation import newest_picture, shown_image
from unite.tracking.sender import Sender
from unite.tracking.server import Login, RunHandle, reason_of
from unite.tracking.spool import Spool, Target
from unite.tracking.system import SYSTEM_METRICS, SystemSampler

logger = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""Seconds between two requests to the server."""
PUBLISH_S = 60.0
"""Seconds between two copies of a run's points on S3."""
CLOSE_TIMEOUT_S = 60.0
"""Seconds that `close` waits for the server to take some of the rest; five minutes at most where it
goes on taking."""


def open_tracker(
    handle: RunHandle | None,
    *,
    spool: str | Path | None = None,
    resume_step: int | None = None,
    login: Login | None = None,
    publish_to: Store | None = None,
) -> Tracker:
    """The tracker of one process.

    Args:
        handle: the run to write to; None when tracking is off or the rank is not 0.
        spool: local folder that keeps what is logged; required with a handle.
        resume_step: images seen at the checkpoint that the run resumes from (0 starts over);
            spooled lines beyond it are dropped. None keeps them all.
        login: the driver's credentials, where this process runs on another machine.
        publish_to: the run's folder on S3, where the points are kept too.
    """
    if spool is None:
        if handle is not None:
            raise ValueError("open_tracker needs spool=FOLDER to keep what MLflow does not take")
        return Tracker()
    if login is not None:
        login.use()
    kept = Spool(spool)
    copy = Copy(publish_to, kept.log) if publish_to is not None else None
    if copy:
        copy.fetch()
    kept.repair(resume_step)
    if handle is None:
        return Tracker(kept, copy)
    kept.aim(Target(handle))
    return MlflowTracker(kept, copy)


class Copy:
    """Copy of a run's points in its folder on S3, where files cannot grow: at most one a minute."""

    def __init__(self, run: Store, log: MetricsLog) -> None:
        self.run = run
        self.log = log
        self._due = 0.0

    def fetch(self) -> None:
        """Take the copy where this machine has less than it: another one trained before."""
        stored = self.run.read(METRICS_FILE) if self.run.is_file(METRICS_FILE) else b""
        if len(stored) > (self.log.file.stat().st_size if self.log.file.exists() else 0):
            self.log.file.write_bytes(stored)

    def due(self) -> bool:
        """True once a minute."""
        if time.monotonic() < self._due:
            return False
        self._due = time.monotonic() + PUBLISH_S
        return True

    def write(self) -> None:
        """Bring the copy up to date."""
        if self.log.file.exists():
            self.run.write(METRICS_FILE, self.log.file.read_bytes())


class Tracker:
    """Checks names and keeps what is logged in a spool, if it has one. Never waits for a server.

    Without a spool it is for ranks other than 0, with one for runs without MLflow. A spool on a
    full disk costs metrics, not the training: that is said once.
    """

    def __init__(self, spool: Spool | None = None, copy: Copy | None = None) -> None:
        self._spool = spool
        self._copy = copy
        self._last_step: int | None = None
        self._warned = threading.Event()
        self._background = ThreadPoolExecutor(1, thread_name_prefix="unite-keep")

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep metric values at `step` images seen; ValueError for a name outside the tables."""
        vocabulary = logged()
        for name in metrics:
            if name not in vocabulary and name not in SYSTEM_METRICS:
                raise ValueError(
                    f"metric '{name}' has no row in unite.metrics.specs: names are frozen so that "
                    "runs can be compared. Add a row there with unit and meaning, or log one of: "
                    f"{', '.join(vocabulary)}"
                )
        self._last_step = int(step)
        self._append({name: float(value) for name, value in metrics.items()}, int(step))
        if self._copy and self._copy.due():
            self._background.submit(self._publish)

    def image(self, key: str, image_HWC: np.ndarray, step: int) -> None:
        """Keep a uint8 image (H, W, C) under `key` at `step`; it is encoded in the background."""
        check_image(key, image_HWC)
        if self._spool:
            time_ms = time.time_ns() // 1_000_000
            self._background.submit(self._keep_image, key, image_HWC.copy(), int(step), time_ms)

    def close(self) -> None:
        """Finish writing. Call it once, last."""
        if self._copy:
            self._background.submit(self._publish)
        self._background.shutdown()

    def _publish(self) -> None:
        try:
            if self._copy:
                self._copy.write()
        except OSError as error:
            self._warn(error)

    def _append(self, metrics: dict[str, float], step: int) -> None:
        if self._spool:
            try:
                self._spool.log.append(metrics, step)
            except OSError as error:
                self._warn(error)

    def _keep_image(self, key: str, image_HWC: np.ndarray, step: int, time_ms: int) -> None:
        try:
            encoded = encode_image(shown_image(key), image_HWC, step, time_ms)
        except (OSError, ValueError) as error:  # Pillow built without WebP
            self._warn(error)
            return
        for name, data in encoded.items():
            self._keep_file(name, data)
            if name.endswith(".png"):
                self._keep_file(newest_picture(key), data)

    def _keep_file(self, name: str, data: bytes) -> None:
        if self._spool:
            try:
                self._spool.put_file(name, data)
            except OSError as error:
                self._warn(error)

    def _warn(self, error: Exception) -> None:
        if not self._warned.is_set():
            self._warned.set()
            logger.warning("some of what is logged is lost, training goes on: %s", reason_of(error))


class MlflowTracker(Tracker):
    """Copies its spool to MLflow from a background thread and samples the machine on the way."""

    def __init__(self, spool: Spool, copy: Copy | None) -> None:
        super().__init__(spool, copy)
        self._sampler = SystemSampler()
        self._sampled_step: int | None = None
        self._sender = Sender(
            spool, Delivery(spool), interval_s=INTERVAL_S, before_beat=self._sample_system
        )
        self._sender.start()

    def _sample_system(self) -> None:
        """One sample for each step that was logged: a point is known by its step."""
        step = self._last_step
        if step is not None and step != self._sampled_step:
            self._sampled_step = step
            self._append(self._sampler.sample(), step)

    def close(self) -> None:
        """Send the rest for a bounded time; the log names the file of what remains."""
        super().close()
        self._sender.close(CLOSE_TIMEOUT_S)
