"""Weight entropy against an untrained model of the same architecture (METHOD 5; Section 4).

Needs weights alone, no data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from unite.domains import build_domain
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Suite, common_fields
from unite.evaluation.target import Subject, Target
from unite.figures.entropy import entropy_figure
from unite.figures.sheet import picture
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals
from unite.metrics.weight_entropy import (
    BASELINE,
    DEFAULT_BINS,
    PAPER_BINS,
    TensorEntropy,
    WeightEntropy,
    random_state,
    weight_entropy,
)
from unite.paper import ANALYSED, counterpart

if TYPE_CHECKING:
    from torch import Tensor

    from unite.models.unite import UNITE

ENCODERS = {"tokenizer": "", "separate_denoiser": "denoiser_"}
"""Measured part -> prefix of its metrics' names."""
PAPER_ROWS = {
    ("shared", "trained"): "shared trained",
    ("shared", "random"): "separate encoder at random init",
    ("separate", "trained"): "separate encoder trained",
    ("separate", "random"): "separate encoder at random init",
}


@dataclass(frozen=True, kw_only=True)
class EntropySuite(Suite):
    """The encoder's weights, trained and at random; one chunk. Of a recipe at random alone."""

    suite: ClassVar[str] = "entropy"
    untrained: ClassVar[bool] = True
    counts_samples: ClassVar[bool] = False
    draws: ClassVar[bool] = False

    bins: int = DEFAULT_BINS
    seed: int = 0
    """Seed of the untrained model."""

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request."""
        return cls(total=1, bins=arguments.entropy_bins, **common_fields(arguments, target))

    @classmethod
    def of_untrained(cls, arguments: EvaluateArguments, subject: Subject) -> Self:
        """The suite of a recipe, whose untrained model is drawn under the request's seed."""
        return cls(
            total=1,
            home=subject.home,
            subject=subject,
            bins=arguments.entropy_bins,
            seed=arguments.seed,
        )

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Tensors of each state with their entropies, as JSON."""
        return {"states": Stack(*self._states)}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Entropy of every tensor of each state."""
        from unite.models.unite import UNITE

        config = self.subject.config

        def build() -> UNITE:
            return UNITE(config.model, build_domain(config.domain), config.flow)

        states = {"random": random_state(build, self.seed)}
        if "trained" in self._states:
            states["trained"] = dict(self.model(instruments).named_parameters())
        dumped = {name: np.array(self._dump(state)) for name, state in states.items()}
        totals["states"].update(**dumped)

    def outcome(self, totals: Any) -> Outcome:
        """Megabytes by group, and the bars."""
        dumped = {name: str(array[0]) for name, array in totals["states"].result().items()}
        states = {name: self._parse(dumped[name]) for name in self._states}
        parts = [p for p in ENCODERS if any(t.name.startswith(p) for t in states["random"].tensors)]
        rows = [
            row for part in parts for name in states for row in self._rows(part, name, states[name])
        ]
        bars = {
            f"{part} {name}": states[name].part(part).megabytes()
            for part in parts
            for name in reversed(self._states)
        }
        plot = picture(entropy_figure(bars, bins=self.bins, fits=PAPER_BINS))
        tensors = {name: json.loads(dumped[name]) for name in states}
        content = {"bins": self.bins, **tensors, "card": rows[0].card.of_many()}
        return Outcome(
            suite=self.suite,
            protocol=f"MB, {self.bins} bins over each tensor's range (the paper gives no bins; "
            f"{PAPER_BINS} meet its figures). random: {BASELINE}",
            rows=tuple(rows),
            files={
                "entropy.png": plot.png,
                "entropy.svg": plot.svg,
                "entropy.json": json.dumps(content).encode(),
            },
        )

    @property
    def _states(self) -> tuple[str, ...]:
        """States that are measured: a recipe has no trained weights."""
        return ("trained", "random") if self.subject.uri else ("random",)

    def _rows(self, part: str, name: str, entropy: WeightEntropy) -> list[Row]:
        config = self.subject.config
        known, sharing = config.domain.kind == ANALYSED, config.model.sharing
        prefix = ENCODERS[part] + ("random_" if name == "random" else "")
        paper_row = PAPER_ROWS[sharing, name]
        if part == "separate_denoiser" and name == "trained":
            paper_row = "separate denoiser trained"
        details = {"bins": self.bins, "baseline": BASELINE}
        rows = []
        for group, value in entropy.part(part).megabytes().items():
            card = self.card(f"{prefix}{group}_mb", value, seed=self.seed, details=details)
            paper = counterpart(group, suite="entropy_mb", row=paper_row) if known else None
            rows.append(Row(card=card, paper=paper, note=self._note(group) if paper else ""))
        return rows

    def _note(self, group: str) -> str:
        """Note on the difference between the paper's figure and ours."""
        bins = "" if self.bins == PAPER_BINS else f"paper: bins not given, {PAPER_BINS} fit"
        whole = "the paper counts `other` in" if group == "functional" else ""
        return "; ".join(part for part in (bins, whole) if part)

    def _dump(self, state: Mapping[str, Tensor]) -> str:
        entropy = weight_entropy(state, bins=self.bins)
        return json.dumps([[t.name, t.group, t.num_elements, t.bits] for t in entropy.tensors])

    def _parse(self, text: str) -> WeightEntropy:
        tensors = tuple(
            TensorEntropy(name=name, group=group, num_elements=num, bits=bits)
            for name, group, num, bits in json.loads(text)
        )
        return WeightEntropy(bins=self.bins, tensors=tensors)
