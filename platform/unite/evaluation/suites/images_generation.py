"""Samples and their fidelity: Frechet distance, Inception Score, KID, precision, recall, density,
coverage, a grid, evaluations and images per second (METHOD 4, 5; paper Table 1).

One seed per sample index, so a sample depends on neither batch nor worker. Needs extractors and
reference statistics of the training images; with a search of the guidance scale, its samples.
Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np

from unite.config.schema import SamplingConfig
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import class_counts
from unite.evaluation.drawing import Cost, Drawing, num_samples, sampling_of
from unite.evaluation.guidance import SCALES, search_of, search_scale, too_few_to_search
from unite.evaluation.guidance import SUITE as SEARCH
from unite.evaluation.images.distances import (
    count_features,
    extractor_fields,
    feature_totals,
    load_reference,
    metric_details,
    plan_of,
    reference_fields,
)
from unite.evaluation.images.features import metric_name
from unite.evaluation.images.guards import ImageGuard, bias_warning
from unite.evaluation.images.reference import Reference, digest_at
from unite.evaluation.images.suite import FeatureSuite, extractors_of
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row, has_outcomes, read_outcomes
from unite.evaluation.suite import Run, common_fields
from unite.evaluation.target import Target, check_labels
from unite.lazy import torch
from unite.metrics.accumulator import Arrays, Stack, Totals, merge_arrays
from unite.metrics.errors import MetricError
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics, fidelity_metrics
from unite.paper import model_counterpart
from unite.sampling.grid import image_grid, png
from unite.sampling.protocol import describe
from unite.storage import Store

GRID_VALUES = 64 * 3 * 256**2
"""Values (pixels times channels) of the images in the grid, at most."""
GRID_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class Generation(FeatureSuite, Drawing):
    """N class-conditional samples under one sampling protocol."""

    suite: ClassVar[str] = "generation"

    references: tuple[str, ...] = field(default=(), compare=False)
    """Statistics of the real images, one file per extractor."""
    encoding: str = field(default="", compare=False)
    """Format of the stored images behind references that were made here."""
    given_reference: str = field(default="", compare=False)
    """Statistics of the real images for the first extractor; empty = found or made."""
    search: Literal["", "full", "adaptive"] = field(default="", compare=False)
    """Search of the guidance scale with the lowest distance; empty = none."""
    class_warning: str = field(default="", compare=False)
    """Note on samples of classes without training images."""

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request; MetricError for a reference that does not fit."""
        total = num_samples(arguments, target)
        sampling = sampling_of(arguments, target)
        check_labels(target)
        extractors = extractors_of(arguments, target)
        if arguments.reference:
            extractors.check_given(arguments.reference)
        balanced = total if arguments.labels == "balanced" else 0
        counts = class_counts(target.train, target.subject.config.domain)
        return cls(
            total=total,
            sampling=sampling,
            labels=arguments.labels,
            seed=arguments.seed,
            encoding=target.train.encoding,
            extractors=extractors,
            given_reference=arguments.reference,
            search=search_of(arguments),
            class_warning=counts.warning(balanced) if counts else "",
            **common_fields(arguments, target),
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """Work that comes first, and what the request cannot have."""
        few = too_few_to_search(self.total) if self.search == "adaptive" else ""
        return (*super().notices, few, self.class_warning)

    @property
    def as_asked(self) -> Self:
        """Without extractors, and without the scale that a search chooses."""
        scale = SamplingConfig.cfg_scale if self.search else self.sampling.cfg_scale
        return super().as_asked.at_scale(scale)

    def prepared(self, run: Run) -> Self:
        """With its extractors and references, at the guidance scale that a search finds."""
        ready = super().prepared(run)
        if self.extractors:
            files = self.extractors.references(run, self.given_reference)
            ready = replace(ready, references=files)
        return search_scale(ready, run) if self.search else ready

    @property
    def found(self) -> tuple[Outcome, ...]:
        """The search of the guidance scale."""
        return (Outcome.load(self.folder / SEARCH),) if self.search else ()

    def is_kept(self) -> bool:
        """True if the numbers are there, against these real images; of a search, at the scale where
        one of its kind ended."""
        if not self.search:
            return super().is_kept() and self._is_against_reference(self.folder)
        return any(self.at_scale(scale)._ended_search() for scale in SCALES)

    def _ended_search(self) -> bool:
        if not all(has_outcomes(place) for place in (self.folder, self.folder / SEARCH)):
            return False
        (found,) = read_outcomes(self.folder / SEARCH)
        is_kind = found.rows[0].card.details["adaptive"] == (self.search == "adaptive")
        return is_kind and self._is_against_reference(self.folder / SEARCH)

    def _is_against_reference(self, folder: Store) -> bool:
        """True if a folder's numbers are against the statistics that are asked for; samples are the
        same for all, so that one folder holds the numbers of the last that was asked for."""
        file = self.given_reference
        if not file and self.extractors:
            file = self.extractors.stored_reference(self.sources[0])
        if not file:
            return True
        try:
            asked = digest_at(file, self.sources[0].id)
        except MetricError:  # a damaged one of the storage is told and built again
            return False
        rows = [row for found in read_outcomes(folder) for row in found.rows]
        return not rows or rows[0].card.reference == asked

    @property
    def plans(self) -> tuple[FidelityPlan, ...]:
        """Plans of counting, one for each extractor."""
        return tuple(plan_of(source, self.total) for source in self.sources)

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Cost, the grid's images, and features on every extractor."""
        return {
            "cost": Cost(),
            "shown": Stack("shown"),
            **feature_totals("fake", self.plans, device),
        }

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Draw the samples of a chunk and count them."""
        guard, domain = ImageGuard(), self.domain(instruments)
        self.model(instruments)  # loaded before the clock starts
        for indices_B in torch.arange(chunk.start, chunk.stop).split(instruments.batch(len(chunk))):
            started = time.perf_counter()
            samples = self.draw(instruments, indices_B)
            pixels_BHWC = domain.render(samples.reconstruction)
            guard.add(samples.reconstruction.float(), indices_B.numpy())
            seconds = time.perf_counter() - started  # the check has waited for the device
            totals["cost"].update(samples, seconds, instruments.machine)
            count_features(
                totals, "fake", self.sources, instruments, indices_B.numpy(), pixels_BHWC
            )
            shown = indices_B < self._grid_images()
            if shown.any():
                totals["shown"].update(shown=pixels_BHWC[shown].cpu().numpy())
        guard.check()

    @property
    def distance_name(self) -> str:
        """Name of the distance that a search lowers."""
        return metric_name(self.sources[0].id)

    def distance(self, chunks: Iterable[Arrays], *, complete: bool) -> float:
        """Frechet distance of the samples of some chunks, on the first extractor.

        MetricError unless they are all samples, where `complete`.
        """
        totals = feature_totals("fake", self.plans[:1], "cpu")
        for arrays in chunks:
            merge_arrays(totals, arrays)
        if complete:
            totals["fake/0/"].check_complete()
        return self.reference(0).gaussian.distance(totals["fake/0/"].result())

    def reference(self, number: int) -> Reference:
        """Statistics of the real images for an extractor."""
        return load_reference(self.references[number], self.sources[number])

    def protocol_fields(self, nfe: float) -> dict[str, Any]:
        """Fields of a card about sampling, first extractor and its reference."""
        return {
            **self.sampling_fields(nfe),
            **extractor_fields(self.sources[0]),
            **reference_fields(self.reference(0), self.encoding),
        }

    def outcome(self, totals: Any) -> Outcome:
        """All metrics on all extractors, cost and grid."""
        rows: list[Row] = []
        remarks: list[str] = []
        cost = totals["cost"]
        nfe, passes = (cost.evaluations / self.total).tolist()
        for number in range(len(self.sources)):
            statistics, reference = totals[f"fake/{number}/"], self.reference(number)
            statistics.check_complete()
            rows += self._fidelity_rows(number, statistics, reference, nfe)
            if reference.kept_features is None:
                remarks.append(
                    f"{self.references[number]} keeps no features: no KID, precision, recall, "
                    "density and coverage. Build it with `evaluate.py reference`"
                )
        rows += self.cost_rows(cost, nfe, passes)
        return Outcome(
            suite=self.suite,
            protocol=f"{describe(self.sampling)}, {self.labels} classes, seed {self.seed}",
            rows=tuple(rows),
            remarks=tuple(remarks),
            files={"samples.png": png(self._grid(totals["shown"].result()["shown"]))},
        )

    def _fidelity_rows(
        self, number: int, statistics: FidelityStatistics, reference: Reference, nfe: float
    ) -> list[Row]:
        source = self.sources[number]
        plan = self.plans[number]
        fewest = min(self.total, reference.num or self.total)
        rows = []
        values = fidelity_metrics(statistics, reference.gaussian, reference.kept_features)
        for base, value in values.items():
            if base.endswith("_std"):
                continue
            card = self.card(
                metric_name(source.id, base),
                value,
                **self.sampling_fields(nfe),
                **extractor_fields(source),
                **reference_fields(reference, self.encoding),
                details=metric_details(base, plan, reference),
            )
            spread = values.get(f"{base}_std")
            note = "" if spread is None else f"std {spread:.2g}"
            if base == "fid":
                note = bias_warning(fewest, source.num_features) or ""
            model = self.subject.config
            paper = model_counterpart(base, suite=self.suite, config=model) if not number else None
            rows.append(Row(card=card, paper=paper, note=note))
        return rows

    def _grid_images(self) -> int:
        values = self.images.channels * self.images.size**2
        return max(1, min(GRID_IMAGES, GRID_VALUES // values))

    def _grid(self, images_BHWC: np.ndarray) -> np.ndarray:
        return image_grid(images_BHWC, columns=min(10, self.images.num_classes, len(images_BHWC)))
