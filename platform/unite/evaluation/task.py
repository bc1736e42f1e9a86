"""A task: one suite under one protocol, as plain data that travels to workers.

Its folder is named by the digest of everything that its numbers depend on, so that the same command
finds its finished chunks and another protocol never mixes with them. A field declared with
`compare=False` says where something is, not what it is, and stays out of the digest.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from unite.config.schema import RunConfig
from unite.domains import Domain
from unite.evaluation.arguments import Precision
from unite.evaluation.card import MetricCard
from unite.evaluation.chunks import (
    Arrays,
    Chunk,
    KeptChunks,
    is_finished,
    partition,
    write_chunk,
)
from unite.evaluation.images.extractors import exact_convolutions
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome
from unite.flow.random import NOISE_VERSION
from unite.metrics.versions import library_versions
from unite.models.unite import UNITE
from unite.storage import Store
from unite.training.setup import build_model


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The weights that are measured."""

    digest: str
    """Digest of the checkpoint's content."""
    ema: bool = True
    uri: str = field(compare=False)
    """Path or URI for `unite.load`; empty = an untrained model of `config`."""
    images: int = field(default=0, compare=False)
    """Training images that it has seen; 0 = unknown."""
    home: str = field(compare=False)
    """Folder that its evaluations are kept in."""
    config: RunConfig = field(compare=False, repr=False)
    """Config of its run; for bare weights the fields that they tell, else defaults."""
    trained_here: bool = field(default=True, compare=False)
    """True if `config` is a run's, so that its training part is known."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Work that is cut into chunks; `measure` runs on workers, the rest in the driver."""

    suite: ClassVar[str]
    """Name of the work, and label of its chunks."""

    total: int
    """Samples or rows, N."""
    home: str = field(compare=False)
    """Folder below which the task's own folder lies."""

    def chunks(self) -> tuple[Chunk, ...]:
        """The pieces, in the order in which they are combined."""
        return partition(self.suite, self.total)

    @property
    def cost(self) -> float:
        """Passes through the model per sample, for the progress line's time left."""
        return 1.0

    @abstractmethod
    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Sufficient statistics of a chunk."""

    def is_finished(self, chunk: Chunk) -> bool:
        """True if the chunk's result is kept."""
        return is_finished(self.folder, chunk)

    def run(self, instruments: Instruments, chunk: Chunk) -> None:
        """Compute a chunk and keep its result."""
        write_chunk(self.folder, chunk, self.measure(instruments, chunk))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of what the numbers are computed with."""
        return library_versions()

    @cached_property
    def digest(self) -> str:
        """16 digits that name everything the numbers depend on, versions included."""
        content = {"suite": self.suite, **identity(self), "versions": self.versions}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def folder(self) -> Store:
        """Folder of chunks and results."""
        return Store(self.home) / f"{self.suite}-{self.digest}"


@dataclass(frozen=True, kw_only=True)
class Suite(Task):
    """A task about a checkpoint that ends in numbers."""

    draws: ClassVar[bool] = True
    """True if its numbers depend on drawn noise."""

    subject: Subject
    precision: Precision = "float32"

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries, and of the noise if any is drawn."""
        return library_versions() | ({"noise": NOISE_VERSION} if self.draws else {})

    @abstractmethod
    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """Numbers and pictures from all chunks, in the order of `chunks()`."""

    def model(self, instruments: Instruments) -> UNITE:
        """The subject's model."""
        subject = self.subject
        if subject.uri:
            return instruments.model(subject.uri, ema=subject.ema)
        fresh = instruments.cached(subject, lambda: build_model(subject.config))
        return fresh.to(instruments.device).eval()

    def domain(self, instruments: Instruments) -> Domain:
        """Domain of its samples."""
        return instruments.domain(self.subject.config.domain)

    def card(self, metric: str, value: float, **fields: Any) -> MetricCard:
        """Card of a number, with the protocol fields that all suites share."""
        known = {
            "step": self.subject.images,
            "suite": self.suite,
            "checkpoint": self.subject.digest,
            "weights": "ema" if self.subject.ema else "raw",
            "num_samples": self.total,
            "precision": self.precision,
            "versions": self.versions,
        }
        return MetricCard(metric=metric, value=float(value), **{**known, **fields})


@dataclass(frozen=True, kw_only=True)
class Work:
    """One chunk of one task, the unit of a worker's work."""

    task: Task
    chunk: Chunk

    def __str__(self) -> str:
        return str(self.chunk)

    @property
    def finished(self) -> bool:
        """True if its result is kept."""
        return self.task.is_finished(self.chunk)

    @property
    def cost(self) -> float:
        """Passes through the model."""
        return self.task.cost * len(self.chunk)


def compute(work: Work, instruments: Instruments) -> None:
    """Compute a chunk and keep it, unless it is kept already.

    Convolutions are exact, the model's too: cuDNN would round to TF32 under a float32 card.
    """
    if not work.finished:
        with exact_convolutions():
            work.task.run(instruments, work.chunk)


def work_of(task: Task) -> list[Work]:
    """All chunks of a task."""
    return [Work(task=task, chunk=chunk) for chunk in task.chunks()]


def read_chunks(task: Task) -> KeptChunks:
    """The kept results of all chunks, in order; reading one that is missing is a StorageError."""
    return KeptChunks(task.folder, task.chunks())


def identity(value: Any) -> Any:
    """A dataclass as JSON values, without the fields that only say where something is.

    A field that is `LATER` counts only where it is not at its default, as in a run's digest.
    """
    if dataclasses.is_dataclass(value):
        chosen = {item.name: item for item in dataclasses.fields(value) if item.compare}
        values = {name: getattr(value, name) for name in chosen}
        return {
            name: identity(each)
            for name, each in values.items()
            if not (chosen[name].metadata.get("later") and each == chosen[name].default)
        }
    if isinstance(value, tuple | list):
        return [identity(item) for item in value]
    return value
