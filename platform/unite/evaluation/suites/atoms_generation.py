"""Samples of molecules and crystals (METHOD 7; paper Tables 3 and 5): validity, novelty and
distances to the data.

Samples are drawn first and kept; then they are judged, and beside each number stands the truth: the
same routine on the true held-out structures. Distances of the truth are of its two halves.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np

from unite.config.domains import AtomsConfig
from unite.config.serialise import LATER
from unite.domains import build_domain
from unite.domains.atoms.verdicts.chemistry import MATCHER, POSE_COLUMNS, versions
from unite.domains.atoms.verdicts.crystals import ANGLE_RULE, smact_digest
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.atoms.alike import COMPARE, AlikeCrystals
from unite.evaluation.atoms.rows import atoms_row
from unite.evaluation.atoms.rules import PLAIN, Rules, installed
from unite.evaluation.atoms.samples import Samples
from unite.evaluation.atoms.truth import (
    TrueStructures,
    data_name,
    known_data,
    references,
    true_structures,
)
from unite.evaluation.chunks import Chunk
from unite.evaluation.drawing import Drawing
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Run, read_chunks, work_items
from unite.evaluation.target import Target
from unite.lazy import torch
from unite.metrics.accumulator import Arrays, Stack, Totals
from unite.metrics.atoms.judged import (
    Number,
    alike_numbers,
    crystal_distances,
    crystal_rates,
    halves,
    kind_numbers,
    molecule_distances,
    molecule_rates,
    set_numbers,
)
from unite.sampling.protocol import describe
from unite.words import count

CRYSTAL_RULES = {
    **dict.fromkeys(("struct_pct", "valid_pct"), ANGLE_RULE),
    **dict.fromkeys(("unique_pct", "novel_pct", "novel_all_pct"), ANGLE_RULE | MATCHER),
}
"""Metric of crystals -> the rule that decides it, for its card."""


@dataclass(frozen=True, kw_only=True)
class Generation(Drawing):
    """N samples, judged."""

    suite: ClassVar[str] = "generation"
    on_cpu: ClassVar[bool] = True

    rules: Rules
    truth: TrueStructures
    """The held-out structures."""
    known: tuple[TrueStructures, ...] = ()
    """Names of the training set and of all other splits; none without the packages for names."""
    alike: tuple[AlikeCrystals, ...] = field(default=(), metadata=LATER)
    """Groups of the drawn crystals and of the true ones; none without the package for them."""
    data_name: str = field(default="", compare=False)
    """Name of the data as tables have it."""
    missing: tuple[str, ...] = field(default=(), compare=False)
    """Words on packages that are not installed."""

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request; ValueError where PoseBusters is asked for and missing."""
        samples = Samples.of(arguments, target)
        config: Any = target.subject.config.domain
        rules, missing = Rules.of(config, min(arguments.pose_samples, samples.total))
        names = known_data(target) if PLAIN in rules.tasks else ()
        alike, without = _alike(samples, target) if config.periodic else ((), ())
        return cls(
            rules=rules,
            truth=true_structures(target.held_out, target, rules),
            known=tuple(true_structures(each, target, rules.names_alone) for each in names),
            data_name=data_name(target),
            alike=alike,
            missing=(*missing, *without),
            **_shared_fields(samples),
        )

    @property
    def config(self) -> AtomsConfig:
        """Config of its domain."""
        return self.truth.domain

    @property
    def samples(self) -> Samples:
        """Task that draws."""
        return Samples(**_shared_fields(self))

    @property
    def versions(self) -> dict[str, str]:
        """Versions of the libraries, the noise and the chemistry packages."""
        compared = dict(self.alike[0].packages) if self.alike else {}
        return super().versions | dict(self.rules.packages) | compared

    @property
    def cost(self) -> float:
        """One: judging passes nothing through the model."""
        return 1.0

    @property
    def notices(self) -> tuple[str, ...]:
        """Packages that are missing, and what is measured without them."""
        return tuple(f"{each}; what needs none is measured" for each in self.missing)

    def prepared(self, run: Run) -> Self:
        """With its samples drawn, and the true structures judged; these alone without a run."""
        noun = build_domain(self.config).noun
        if self.subject.uri:
            run(f"drawing {count(self.total, noun)}", work_items(self.samples))
        true = [item for task in (self.truth, *self.known) for item in work_items(task)]
        run(f"judging true {noun}s", true)
        alike = self.alike if self.subject.uri else self.alike[1:]
        if alike:
            run(f"comparing {noun}s", [item for task in alike for item in work_items(task)])
        return self

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Columns of judgements."""
        return {"judged/": Stack()}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Judge the kept samples of a chunk."""
        totals["judged/"].update(**self.rules.judge(self.samples.read(chunk), instruments))

    def outcome(self, totals: Any) -> Outcome:
        """All numbers, each beside the truth and the paper's."""
        judged = totals["judged/"].result()
        drawn: Any = self.samples.merged(read_chunks(self.samples))
        numbers, truth = self.numbers(judged)
        numbers |= kind_numbers(drawn["kind/"].result())
        nfe, passes = (drawn["cost"].evaluations / self.total).tolist()
        shared = {**self.sampling_fields(nfe), "data": self.truth.data.digest}
        rows = [self._row(name, each, truth.get(name), shared) for name, each in numbers.items()]
        timeouts = int(judged["timeouts"].sum()) if "timeouts" in judged else 0
        late = (f"invalid for want of time: {count(timeouts, 'verdict')}",) if timeouts else ()
        return Outcome(
            suite=self.suite,
            protocol=f"{describe(self.sampling)}, seed {self.seed}; {self.data_name}: truth of "
            f"{self.truth.total:,} held-out ones",
            rows=(*(row for row in rows if row), *self.cost_rows(drawn["cost"], nfe, passes)),
            remarks=(*self.missing, *late),
        )

    def numbers(self, judged: Arrays) -> tuple[dict[str, Number], dict[str, Number]]:
        """Numbers of the samples, and of the truth."""
        true = self.truth.judged()
        if self.rules.periodic:
            ours, others = halves(true, len(true["struct"]))
            truth = crystal_rates(true) | crystal_distances(ours, others)
            found = crystal_rates(judged) | crystal_distances(judged, true)
            if self.alike:
                drawn, held_out = (alike_numbers(task.counts()) for task in self.alike)
                found, truth = found | drawn, truth | held_out
                del truth["novel_all_pct"]  # the held-out ones are among all
            return found, truth
        ours, others = halves(true, len(true["atoms"]))
        truth = molecule_rates(true, POSE_COLUMNS) | molecule_distances(ours, others)
        found = molecule_rates(judged, POSE_COLUMNS) | molecule_distances(judged, true)
        if self.known:
            found |= set_numbers(_names(judged), *self._known_names)
            truth |= set_numbers(_names(true), *self._known_names)
            del truth["novel_all_pct"]  # the held-out ones are among all
        return found, truth

    @cached_property
    def _known_names(self) -> tuple[set[str], set[str]]:
        lists = [set(_names(task.judged())) for task in self.known]
        return lists[0], set.union(*lists)

    def _row(
        self, name: str, ours: Number, truth: Number | None, shared: dict[str, Any]
    ) -> Row | None:
        if not np.isfinite(ours[0]):
            return None
        details = CRYSTAL_RULES.get(name, {}) if self.rules.periodic else {}
        card = self.card(name, ours[0], details=details, **{**shared, "num_samples": ours[2]})
        return atoms_row(card, ours[1], truth, self.config.kind)


def _shared_fields(drawing: Drawing) -> dict[str, Any]:
    """Fields that the drawing and its judgement have in common."""
    return {item.name: getattr(drawing, item.name) for item in fields(Samples)}


def _alike(samples: Samples, target: Target) -> tuple[tuple[AlikeCrystals, ...], tuple[str, ...]]:
    """Comparisons of drawn and of held-out crystals, and words on packages that are missing."""
    there, missing = installed((COMPARE,))
    if not there:
        return (), missing
    known = known_data(target)
    packages = tuple(sorted((versions(there) | {"smact": smact_digest()}).items()))
    domain: Any = target.subject.config.domain
    drawn = AlikeCrystals(
        total=samples.total,
        home=samples.home,
        source=samples,
        known=known,
        domain=domain,
        packages=packages,
    )
    true = replace(
        drawn,
        total=target.held_out.num_rows,
        home=references(target),
        source=target.held_out,
        known=known[:1],
    )
    return (drawn, true), ()


def _names(judged: Arrays) -> list[str]:
    """Names of the valid molecules."""
    return judged[f"{PLAIN}_smiles"][judged[PLAIN]].tolist()
