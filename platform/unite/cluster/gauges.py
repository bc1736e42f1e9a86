"""Gauges of Ray for the metrics that rank 0 logs; Prometheus scrapes them beside Ray's own.

A metric's gauge is its name with unite_ before it and _ for /; Ray adds its own prefix to every
name, so throughput/mfu is found as ray_unite_throughput_mfu. A value can be scraped for about
twenty seconds after it was set (twice Ray's export interval), however long the next one takes:
queries bridge that with last_over_time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from unite.metrics.specs import logged
from unite.training.loop import Tracker

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

logger = logging.getLogger(__name__)

IMAGES_SEEN = "images_seen"
"""The gauge of the step, which is no metric of the vocabulary."""


def gauge_name(metric: str) -> str:
    """The name under which a metric of the vocabulary is handed to Ray."""
    return f"unite_{metric.replace('/', '_')}"


def tag_value(run: str) -> str:
    """The run's name as Ray takes it for a tag: other letters than those of ASCII as \\xe9."""
    return run.encode("ascii", "backslashreplace").decode()


def with_gauges(tracker: Tracker, run: str) -> Tracker:
    """`tracker` that also sets gauges with the run as tag; unchanged where Ray is not running."""
    import ray

    return GaugedTracker(tracker, run) if ray.is_initialized() else tracker


class GaugedTracker:
    """A tracker that sets a gauge for each value logged. A gauge that fails costs only gauges."""

    def __init__(self, tracker: Tracker, run: str) -> None:
        self._tracker = tracker
        self._run = tag_value(run)
        self._gauges: dict[str, Gauge] = {}
        self._broken = False

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Log, then set the gauges of these metrics and of the images seen."""
        self._tracker.log(metrics, step)
        if self._broken:
            return
        try:
            for name, value in {**metrics, IMAGES_SEEN: step}.items():
                self._gauge(name).set(float(value))
        except Exception as error:  # noqa: BLE001 - whatever Ray raises, training goes on
            self._broken = True
            logger.warning("no more gauges for Prometheus, training goes on: %s", error)

    def image(self, key: str, image: np.ndarray, step: int) -> None:
        """Pass on a picture; it has no gauge."""
        self._tracker.image(key, image, step)

    def close(self) -> None:
        """Close the tracker; Ray drops the gauges by itself when the process ends."""
        self._tracker.close()

    def _gauge(self, name: str) -> Gauge:
        if name not in self._gauges:
            from ray.util.metrics import Gauge

            meaning = logged().get(name, "training samples seen")
            gauge = Gauge(gauge_name(name), description=meaning, tag_keys=("run",))
            self._gauges[name] = gauge.set_default_tags({"run": self._run})
        return self._gauges[name]
