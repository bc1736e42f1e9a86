"""Durations of past work on this machine, kept in the storage, and times expected from them.

<storage>/timings.json holds, for each kind of machine, the last few durations and rates by name.
A prediction takes their medians and names its basis. Nothing depends on the file: where it
is missing or cannot be written, typical figures stand in.
"""

from __future__ import annotations

import functools
import logging
import os
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unite.config.schema import RunConfig
from unite.storage import StorageError, Store
from unite.training.flops import training_flops
from unite.training.memory import usable_gpus
from unite.words import clock, count, duration

logger = logging.getLogger(__name__)

FILE = "timings.json"
KEPT = 5
"""Number of values kept per name: the machine of today counts, not that of last year."""
RAY, WORKERS, REPORT = "start Ray, s", "start workers, s", "report, s"
TYPICAL = {RAY: 10.0, WORKERS: 25.0, REPORT: 10.0}
"""Seconds on a typical machine of two cores, used until this machine's own are known."""
SHORTEST_S = 1.0
"""Shortest session, in seconds, whose rate is kept."""


@functools.cache
def machine() -> str:
    """The kind of this machine: its processor, number of cores, GPUs."""
    gpus = [torch.cuda.get_device_name(i) for i in range(usable_gpus())]
    return ", ".join([_processor(), count(os.cpu_count() or 1, "core"), *gpus])


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "unknown processor"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown processor"


@dataclass(frozen=True)
class Timings:
    """The durations and rates of this machine in one storage."""

    storage: Store

    def add(self, values: Mapping[str, float]) -> None:
        """Keep one more value of each name."""
        try:
            content = self._read()
            mine = content.setdefault(machine(), {})
            for name, value in values.items():
                mine[name] = [*mine.get(name, []), round(float(value), 3)][-KEPT:]
            self.storage.write_json(FILE, content)
        except StorageError as error:
            logger.debug("timings are not kept: %s", error)

    def values(self, name: str) -> list[float]:
        """Values kept under a name, oldest first."""
        try:
            return [float(value) for value in self._read().get(machine(), {}).get(name, [])]
        except (StorageError, TypeError, ValueError, AttributeError):
            return []

    def usual(self, name: str, typical: float) -> float:
        """The median of what is known, or a typical value."""
        known = self.values(name)
        return statistics.median(known) if known else typical

    def seconds(self, name: str) -> float:
        """The median of a duration, or a typical one."""
        return self.usual(name, TYPICAL[name])

    def _read(self) -> dict[str, Any]:
        content = self.storage.read_json(FILE) if self.storage.is_file(FILE) else {}
        return content if isinstance(content, dict) else {}


def rate_name(config: RunConfig) -> str:
    """Name of the training rate of runs like this one."""
    kind = "GPU" if config.cluster.use_gpu else "CPU"
    compiled = ", compiled" if config.training.compile else ""
    given = config.cluster.num_workers
    workers = (
        count(given, f"{kind} worker") if isinstance(given, int) else f"{given} {kind} workers"
    )
    return f"training {config.recipe} on {workers}{compiled}, FLOP/s"


def note_training(config: RunConfig, images: int, seconds: float, *, stopped: bool = False) -> None:
    """Keep the rate of a session that trained `images` in `seconds`, evaluations included.

    One that was stopped before it has trained from one evaluation to the next says nothing: most of
    its time was the evaluation before the first step, which comes once.
    """
    is_too_short = stopped and images < config.evaluation.every_images
    if images and seconds >= SHORTEST_S and not is_too_short:
        flops = training_flops(config).total * images
        Timings(Store.open(config.storage)).add({rate_name(config): flops / seconds})


@dataclass(frozen=True, kw_only=True)
class Expected:
    """An expected time, with its parts."""

    parts: Mapping[str, float]
    """Seconds by part of the work, in order."""
    basis: str
    """Source of the figures, in words."""

    @property
    def seconds(self) -> float:
        """Sum of all parts, in seconds."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        parts = ", ".join(f"{clock(seconds)} {name}" for name, seconds in self.parts.items())
        return f"about {duration(self.seconds)}: {parts} ({self.basis})"


def expect_training(config: RunConfig, images: int, *, rate: float = 0.0) -> Expected | None:
    """Time of training `images` of a run with its storage filled in, start and report included.

    It rests on earlier runs of the recipe here, or else on `rate`, the FLOP/s of timed steps; None
    when there is neither.
    """
    timings = Timings(Store.open(config.storage))
    known = timings.values(rate_name(config))
    if known:
        basis = f"from {count(len(known), 'earlier run')} of {config.recipe} on this machine"
    elif rate:
        basis = "from a few steps timed now; the start is typical of two cores"
    else:
        return None
    flops = training_flops(config).total * images
    return Expected(
        parts={
            "start-up": timings.seconds(RAY) + timings.seconds(WORKERS),
            "training": flops / (statistics.median(known) if known else rate),
            "report": timings.seconds(REPORT),
        },
        basis=basis,
    )
