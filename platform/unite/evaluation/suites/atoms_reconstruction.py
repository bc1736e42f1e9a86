"""Reconstruction of held-out molecules or crystals by the rules that need no chemistry package:
match, elements and RMSD, by atom index (METHOD 7; paper Tables 3 and 5).

D(GE_tokenize(x)) against x without latent noise, with tokenization noise addressed by row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch

from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import MOST_IMAGES, Dataset, undecodable
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Suite, common_fields
from unite.evaluation.target import Target
from unite.metrics.accumulator import Stack, Totals
from unite.metrics.atoms.summary import mean, percentage, reconstruction
from unite.metrics.specs import shown_value
from unite.sampling.passes import tokenize_rows

PARTS = ("match_pct", "exact_pct", "types_pct", "rmsd_all")
"""Metrics of each sample, as the domain gives them."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Suite):
    """The first N held-out samples."""

    suite: ClassVar[str] = "reconstruction"

    data: Dataset
    seed: int = 0

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request."""
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
        """The metrics of each sample; a sample has few."""
        return {"samples/": Stack(*PARTS)}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Reconstruct a chunk of rows."""
        model, domain = self.model(instruments), self.domain(instruments)
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=self.seed)
                atoms = model.decode(z0_BKD, rows.mask_BK)
            found = domain.reconstruction_metrics(atoms, rows.sample)
            totals["samples/"].update(
                **{name: found[name].double().cpu().numpy() for name in PARTS}
            )

    def outcome(self, totals: Any) -> Outcome:
        """Rates and errors over all samples, each with its standard error."""
        samples = totals["samples/"].result()
        num = len(samples["match_pct"])
        rows = [
            Row(
                card=self.card(
                    name,
                    value,
                    data=self.data.digest,
                    seed=self.seed,
                    num_samples=num,
                    details={"match": "native"},
                ),
                note=_note(name, samples),
            )
            for name, value in reconstruction(samples).items()
            if np.isfinite(value)
        ]
        return Outcome(
            suite=self.suite,
            protocol=f"held-out samples against D(GE(x)), native match, {self.precision}",
            rows=tuple(rows),
            remarks=undecodable(self.data, self.total, num),
        )


def _note(name: str, samples: dict[str, np.ndarray]) -> str:
    """Standard error of a rate or a mean, in the metric's unit; empty for quantiles."""
    if name in ("match_pct", "exact_pct"):
        error = percentage(int((samples[name] > 0).sum()), len(samples[name]))[1]
    elif name == "rmsd_matched":
        error = mean(samples["rmsd_all"][samples["match_pct"] > 0])[1]
    elif name in samples:
        error = mean(samples[name])[1]
    else:
        return ""
    return f"+- {shown_value(name, error)}" if np.isfinite(error) else ""
