"""Tasks and suites: work on a checkpoint or its data as plain data that travels to workers.

A task is cut into chunks; workers count each into accumulators, the driver merges them. Its folder
is named by the digest of everything that its numbers depend on, so that the same command finds its
finished chunks and another protocol never mixes with them. A field declared with `compare=False`
says where something is, not what it is, and stays out of the digest.

A suite is a task that ends in numbers. Everything about it is in its file in `suites/`: what it
needs, how a batch is counted, what the totals mean; the registry there says which domains have it.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unite.config.schema import Precision
from unite.config.serialise import json_digest
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.card import MetricCard
from unite.evaluation.chunks import (
    Chunk,
    ChunkError,
    damaged,
    discard_chunk,
    is_finished,
    partition,
    read_chunk,
    require_shapes,
    write_chunk,
)
from unite.evaluation.results import Outcome, has_outcomes
from unite.evaluation.target import Subject, Target
from unite.flow import NOISE_VERSION
from unite.metrics.accumulator import Arrays, Totals, merge_arrays, to_arrays
from unite.metrics.versions import library_versions
from unite.storage import Store

if TYPE_CHECKING:  # whoever scans a storage for missing results computes nothing
    import torch

    from unite.domains import Domain
    from unite.evaluation.instruments import Instruments
    from unite.models.unite import UNITE

History = Callable[[str], Sequence[float]]
"""Function of a metric's name: its values, as the training run logged them."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Work that is cut into chunks; `count` runs on workers, the rest in the driver."""

    suite: ClassVar[str]
    """Name of the work, and label of its chunks."""
    on_cpu: ClassVar[bool] = False
    """True if it passes nothing through a model, so that a GPU would only wait for it."""
    counts_samples: ClassVar[bool] = True
    """False if its chunks hold no samples one by one: weights, costs, a fit."""

    total: int
    """Samples or rows, N."""
    home: str = field(compare=False)
    """Folder below which the task's own folder lies."""

    def chunks(self) -> tuple[Chunk, ...]:
        """The pieces, in the order in which they are merged."""
        return partition(self.suite, self.total)

    @property
    def cost(self) -> float:
        """Passes through the model per sample, for the progress line's time left."""
        return 1.0

    @abstractmethod
    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Empty accumulators of the chunks of a label; of all labels, names are distinct."""

    @abstractmethod
    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Count a chunk into empty accumulators, as `totals` made them."""

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Counts of a chunk, as they are kept."""
        totals = self.totals(chunk.label, instruments.device)
        self.count(totals, instruments, chunk)
        return to_arrays(totals)

    def merged(self, chunks: Iterable[Arrays]) -> Totals:
        """Totals of all chunks, read one at a time in order; ValueError for another number."""
        pieces = self.chunks()
        totals = {label: self.totals(label) for label in dict.fromkeys(p.label for p in pieces)}
        for piece, arrays in zip(pieces, chunks, strict=True):
            merge_arrays(totals[piece.label], arrays)
        return {name: total for each in totals.values() for name, total in each.items()}

    def is_finished(self, chunk: Chunk) -> bool:
        """True if the chunk's result is kept."""
        return is_finished(self.folder, chunk)

    def check_kept(self, chunk: Chunk) -> None:
        """ChunkError for a kept result that cannot be read, or whose arrays are not its own."""
        arrays, totals = read_chunk(self.folder, chunk), self.totals(chunk.label)
        try:
            merge_arrays(totals, arrays)
        except (LookupError, RuntimeError, TypeError, ValueError) as error:
            raise damaged(self.folder, chunk, f"it holds other arrays ({error})") from error
        require_shapes(self.folder, chunk, arrays, to_arrays(totals))

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
        return json_digest({"suite": self.suite, **identity(self), "versions": self.versions})

    @property
    def folder(self) -> Store:
        """Folder of chunks and results."""
        return Store(self.home) / f"{self.suite}-{self.digest}"


@dataclass(frozen=True, kw_only=True)
class WorkItem:
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

    @property
    def place(self) -> tuple[str, Chunk]:
        """Folder and chunk, which no other work shares."""
        return self.task.folder.uri, self.chunk

    def discard_damaged(self) -> str:
        """Remove a kept result that cannot be used; returns why, empty for one that can."""
        if not self.finished:
            return ""
        try:
            self.task.check_kept(self.chunk)
        except ChunkError as error:
            discard_chunk(self.task.folder, self.chunk)
            return str(error)
        return ""

    def compute(self, instruments: Instruments) -> None:
        """Compute the chunk and keep it, unless it is kept already.

        Convolutions are exact, the model's too: cuDNN would round to TF32 under a float32 card.
        """
        if not self.finished:
            from unite.evaluation.instruments import exact_convolutions

            with exact_convolutions():
                self.task.run(instruments, self.chunk)


Run = Callable[[str, Sequence[WorkItem]], None]
"""Function of (title, items) that computes those of the items that are not finished."""


@dataclass(frozen=True, kw_only=True)
class Suite(Task):
    """A task about a checkpoint that ends in numbers."""

    draws: ClassVar[bool] = True
    """True if its numbers depend on drawn noise."""
    untrained: ClassVar[bool] = False
    """True if it can measure an untrained model of a recipe (`of_untrained`)."""

    subject: Subject
    precision: Precision = "float32"

    @classmethod
    @abstractmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request, with whatever is there of what it needs.

        ValueError for arguments that do not fit the target, before anything is computed.
        """

    @classmethod
    def of_untrained(cls, arguments: EvaluateArguments, subject: Subject) -> Self:
        """The suite of a recipe without a run, where `untrained`."""
        raise NotImplementedError(f"{cls.suite} needs a trained run")

    @classmethod
    def why_not(cls, target: Target) -> str:
        """Reason why a target cannot be measured at all, which leaves the suite out; else empty."""
        return ""

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries, and of the noise if any is drawn."""
        return library_versions() | ({"noise": NOISE_VERSION} if self.draws else {})

    @property
    def needs(self) -> tuple[str, ...]:
        """Names of what its preparation finds or makes, as they were asked for: extractors."""
        return ()

    @property
    def notices(self) -> tuple[str, ...]:
        """Notes on missing or changed measurements, shown while they can still be changed."""
        return ()

    @property
    def remarks(self) -> tuple[str, ...]:
        """Notes that stand beside the results of the whole evaluation."""
        return ()

    @property
    def as_asked(self) -> Self:
        """The suite without what its preparation finds: equal requests give equal digests."""
        return self

    def prepared(self, run: Run) -> Self:
        """The suite with everything it needs, made by `run` where it is not there.

        Its chunks are computed afterwards. Other tasks may be among its needs, whose chunks stay
        and are read by its own: samples are drawn once, however often they are measured.
        """
        return self

    def informed(self, history: History) -> Self:
        """The suite with what it shows of the training run's own measurements."""
        return self

    @property
    def found(self) -> tuple[Outcome, ...]:
        """Outcomes of its preparation, which stand before its own."""
        return ()

    def resolved(self) -> Self | None:
        """The suite with what its preparation would find; None while something must be made."""
        return self

    def is_kept(self) -> bool:
        """True if the numbers of a resolved suite are there, whoever asked for them."""
        return has_outcomes(self.folder)

    @abstractmethod
    def outcome(self, totals: Any) -> Outcome:
        """Numbers and pictures from the totals of all chunks."""

    def combine(self, chunks: Iterable[Arrays]) -> Outcome:
        """Numbers and pictures from all chunks, in the order of `chunks()`."""
        return self.outcome(self.merged(chunks))

    def model(self, instruments: Instruments) -> UNITE:
        """The subject's model."""
        subject = self.subject
        if subject.uri:
            return instruments.model(subject.uri, ema=subject.ema, precision=self.precision)
        from unite.training.setup import build_model

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


def common_fields(arguments: EvaluateArguments, target: Target) -> dict[str, Any]:
    """Fields of any suite of a request."""
    subject = target.subject
    return {"home": subject.home, "subject": subject, "precision": arguments.arithmetic}


def analysis_fields(arguments: EvaluateArguments, target: Target) -> dict[str, Any]:
    """Fields of a suite that analyses the first held-out samples."""
    data = target.held_out
    total = min(arguments.analysis_images, data.num_rows)
    return {"total": total, "data": data, **common_fields(arguments, target)}


def work_items(task: Task) -> list[WorkItem]:
    """All chunks of a task."""
    return [WorkItem(task=task, chunk=chunk) for chunk in task.chunks()]


def read_chunks(task: Task) -> Iterator[Arrays]:
    """The kept results of all chunks, in order, never all of them in memory; StorageError for one
    that is missing."""
    return (read_chunk(task.folder, chunk) for chunk in task.chunks())


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
