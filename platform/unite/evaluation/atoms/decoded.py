"""Held-out molecules and crystals as the model reconstructs them: raw arrays, kept by chunk.

So a GPU decodes them once, and CPUs match them, however often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

from unite.domains.atoms.structure import Structure
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.atoms.samples import check_finite, kept_structures, to_arrays
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import MOST_IMAGES, Dataset
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome
from unite.evaluation.suite import Suite, common_fields
from unite.evaluation.target import Target
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals

METRICS = ("match_pct", "exact_pct", "types_pct", "rmsd_all")
"""Metrics of each sample, as the domain gives them."""


@dataclass(frozen=True, kw_only=True)
class Decoded(Suite):
    """D(GE_tokenize(x)) of the first N held-out samples; other suites make numbers of them."""

    suite: ClassVar[str] = "decoded"

    data: Dataset
    seed: int = 0

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The samples of a request."""
        return cls(
            total=min(arguments.num_images or MOST_IMAGES, target.held_out.num_rows),
            data=target.held_out,
            seed=arguments.seed,
            **common_fields(arguments, target),
        )

    @property
    def cost(self) -> float:
        """Passes per sample: tokenizer and decoder."""
        return 2.0

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Raw arrays and the metrics of each sample; a sample has few."""
        return {"samples/": Stack(*METRICS), "kind/": Stack("right"), "atoms/": Stack()}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Reconstruct a chunk of rows; MetricError names one that is not finite."""
        from unite.sampling.passes import tokenize_rows

        model = self.model(instruments)
        domain: Any = self.domain(instruments)
        whole: Any = model.domain
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                sample = whole.sample_of(domain.name, rows.sample)
                z0_BKD = tokenize_rows(model, sample, rows.rows_B, seed=self.seed)
                decoded = model.decode(z0_BKD, rows.mask_BK)
            atoms = whole.reconstruction_of(domain.name, decoded)
            check_finite(domain.finite(atoms), rows.rows_B.cpu(), "the reconstruction of row")
            if (right_B := whole.is_of(domain.name, decoded)) is not None:
                totals["kind/"].update(right=right_B.cpu().numpy())
            found = domain.reconstruction_metrics(atoms, rows.sample)
            columns = {name: found[name].double().cpu().numpy() for name in METRICS}
            totals["samples/"].update(**columns)
            totals["atoms/"].update(**to_arrays(domain.structures(atoms, rows.mask_BK)))

    def read(self, chunk: Chunk) -> list[Structure]:
        """The kept reconstructions of a chunk's range, without rows that cannot be decoded."""
        return kept_structures(self, chunk)

    def outcome(self, totals: Any) -> Outcome:
        """No numbers of its own."""
        return Outcome(suite=self.suite, rows=())
