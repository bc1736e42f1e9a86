"""Rates of a training run over the last seconds."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from unite.training.flops import DeviceRate, mfu
from unite.training.parallelize import World

WINDOW_SECONDS = 10.0


class Steps(Protocol):
    """Attributes of a trainer that rates are made of."""

    images: int
    """Training images seen."""
    flops_per_image: float
    world: World
    device_rate: DeviceRate
    stream: Any
    """Stream of batches, which counts `wait_seconds`."""


class Window:
    """Images per second, MFU and the share of waiting for data, over the last seconds of steps."""

    def __init__(self, trainer: Steps) -> None:
        self.trainer = trainer
        self._reset()

    def _reset(self) -> None:
        self.time = time.monotonic()
        self.images = self.trainer.images
        self.wait = self.trainer.stream.wait_seconds

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Context whose time is not counted as the steps', such as an evaluation's."""
        started = time.monotonic()
        yield
        self.time += time.monotonic() - started

    def rates(self) -> dict[str, float]:
        """Rates of the current window; a new one begins every few seconds. Call once per step."""
        trainer = self.trainer
        elapsed = max(time.monotonic() - self.time, 1e-9)
        rate = (trainer.images - self.images) / elapsed
        per_device = rate / trainer.world.size
        with self.paused():
            flops = trainer.device_rate.flops
        result = {
            "throughput/images_per_s": rate,
            "throughput/mfu": mfu(trainer.flops_per_image, per_device, flops),
            "data/wait_fraction": (trainer.stream.wait_seconds - self.wait) / elapsed,
        }
        if elapsed > WINDOW_SECONDS:
            trainer.device_rate.refresh()
            self._reset()
        return result
