"""Drawn molecules and crystals: their raw arrays, kept by chunk.

So they are drawn once, however often they are judged.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from unite.domains.atoms.structure import Structure
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Arrays, Chunk, read_chunk
from unite.evaluation.drawing import Cost, Drawing, sampling_of
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome
from unite.evaluation.suite import Task, common_fields
from unite.evaluation.target import Target
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals
from unite.metrics.errors import MetricError

DEFAULT_SAMPLES = 10_000
"""Number of samples in the paper's Tables 3 and 5."""
PER_ATOM = ("positions", "frac")
PER_CELL = ("lengths", "angles")


@dataclass(frozen=True, kw_only=True)
class Samples(Drawing):
    """N samples under one sampling protocol; its own numbers are their cost."""

    suite: ClassVar[str] = "samples"

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The samples of a request."""
        return cls(
            total=arguments.num_samples or DEFAULT_SAMPLES,
            sampling=sampling_of(arguments, target),
            labels="balanced" if target.label is None else str(target.label),
            seed=arguments.seed,
            **common_fields(arguments, target),
        )

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Cost and raw arrays."""
        names = ("sizes", "numbers", *PER_ATOM, *PER_CELL)
        return {"cost": Cost(), "atoms/": Stack(*names), "kind/": Stack("right")}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Draw the samples of a chunk; MetricError names one that is not finite."""
        domain: Any = self.domain(instruments)
        whole: Any = self.model(instruments).domain  # loaded before the clock starts
        for indices_B in torch.arange(chunk.start, chunk.stop).split(instruments.batch(len(chunk))):
            started = time.perf_counter()
            samples = self.draw(instruments, indices_B)
            atoms = whole.reconstruction_of(domain.name, samples.reconstruction)
            check_finite(domain.finite(atoms), indices_B, "sample")
            structures = domain.structures(atoms, samples.mask_BK)
            totals["cost"].update(samples, time.perf_counter() - started, instruments.machine)
            totals["atoms/"].update(**to_arrays(structures))
            if (right_B := whole.is_of(domain.name, samples.reconstruction)) is not None:
                totals["kind/"].update(right=right_B.cpu().numpy())

    def read(self, chunk: Chunk) -> dict[int, Structure]:
        """The kept samples of a chunk's range, by index."""
        return dict(zip(range(chunk.start, chunk.stop), kept_structures(self, chunk), strict=True))

    def outcome(self, totals: Any) -> Outcome:
        """Cost of the samples."""
        cost = totals["cost"]
        nfe, passes = (cost.evaluations / self.total).tolist()
        return Outcome(suite=self.suite, rows=tuple(self.cost_rows(cost, nfe, passes)))


def kept_structures(task: Task, chunk: Chunk) -> list[Structure]:
    """Structures that a task has kept of the range of another one's chunk, under `atoms/`."""
    own = Chunk(label=task.suite, index=chunk.index, count=chunk.count, total=chunk.total)
    arrays = read_chunk(task.folder, own)
    kept = {k.removeprefix("atoms/"): v for k, v in arrays.items() if k.startswith("atoms/")}
    return from_arrays(kept)


def to_arrays(structures: list[Structure]) -> dict[str, np.ndarray]:
    """Structures one after the other as arrays, `sizes` their atoms."""
    names = (*PER_ATOM, *PER_CELL) if structures[0].frac is not None else ("positions",)
    arrays = {name: [getattr(each, name) for each in structures] for name in names}
    return {
        "sizes": np.array([len(each.numbers) for each in structures]),
        "numbers": np.concatenate([each.numbers for each in structures]).astype(np.uint8),
        **{k: np.stack(v) if k in PER_CELL else np.concatenate(v) for k, v in arrays.items()},
    }


def from_arrays(arrays: Arrays) -> list[Structure]:
    """Inverse of `to_arrays`; no structures of no arrays."""
    if not arrays:
        return []
    ends = np.cumsum(arrays["sizes"])[:-1]
    columns: dict[str, Any] = {"numbers": np.split(arrays["numbers"].astype(np.int64), ends)}
    for name in (*PER_ATOM, *PER_CELL):
        if name in arrays:
            values = arrays[name]
            columns[name] = list(values) if name in PER_CELL else np.split(values, ends)
    rows = zip(*columns.values(), strict=True)
    return [Structure(**dict(zip(columns, row, strict=True))) for row in rows]


def check_finite(finite_B: torch.Tensor, indices_B: torch.Tensor, what: str) -> None:
    """MetricError naming the first of what is not finite; no metric would say what is wrong."""
    if not finite_B.all():
        raise MetricError(
            f"{what} {indices_B[~finite_B][0].item()} is not finite: training has diverged. "
            "Evaluate an earlier checkpoint"
        )
