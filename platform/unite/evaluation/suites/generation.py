"""Samples and their fidelity: Frechet distance, Inception Score, KID, precision, recall, density,
coverage, a grid, evaluations and images per second (METHOD 4, 5; paper Table 1).

One seed per sample index, so a sample depends on neither batch nor worker.
Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from unite.config.schema import SamplingConfig
from unite.evaluation.chunks import Arrays, Chunk
from unite.evaluation.images.counting import (
    Counter,
    Totals,
    extractor_fields,
    load_reference,
    metric_details,
    plan_of,
    reference_fields,
)
from unite.evaluation.images.extractors import metric_name
from unite.evaluation.images.guards import ImageGuard, bias_warning
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments
from unite.evaluation.pictures import png
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics, fidelity_metrics
from unite.paper import DOPRI5_EVALUATIONS, counterpart, model_counterpart
from unite.sampling.generate_job import describe
from unite.sampling.generator import Samples, draw
from unite.sampling.grid import image_grid
from unite.sampling.seeds import labels_in_turn, sample_seeds, uniform_labels

Labels = Literal["balanced", "uniform"]

EVALUATIONS_PER_STEP = {"heun": 2, "midpoint": 2, "euler": 1}
CFG_ORDER = "predictions after the final normalisation"
GRID_VALUES = 64 * 3 * 256**2
"""Values (pixels times channels) of the images in the grid, at most."""
GRID_IMAGES = 100


@dataclass(frozen=True, kw_only=True)
class Generation(Suite):
    """N class-conditional samples under one sampling protocol."""

    suite: ClassVar[str] = "generation"

    sampling: SamplingConfig
    labels: Labels = "balanced"
    """Classes of the samples: balanced = equally many of each, uniform = drawn at random."""
    seed: int = 0
    """Seed of the set of samples."""
    sources: tuple[ExtractorSource, ...]
    references: tuple[str, ...] = field(compare=False)
    """Statistics of the real images, one file per extractor."""
    encoding: str = field(default="", compare=False)
    """Format of the stored images behind references that were made here."""

    @property
    def cost(self) -> float:
        """Passes per sample."""
        settings = self.sampling
        evaluations = EVALUATIONS_PER_STEP.get(settings.solver, 0) * settings.num_steps
        return (evaluations or DOPRI5_EVALUATIONS) * (2 if settings.cfg_scale != 1 else 1)

    @property
    def plans(self) -> tuple[FidelityPlan, ...]:
        """Plans of counting, one for each extractor."""
        return tuple(plan_of(source, self.total) for source in self.sources)

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Draw the samples of a chunk and count them."""
        counter, guard = Counter(self.sources, self.plans, instruments), ImageGuard()
        cost = torch.zeros(2, dtype=torch.int64)
        shown: list[np.ndarray] = []
        self.model(instruments)  # loaded before the clock starts
        seconds = 0.0
        indices = torch.arange(chunk.start, chunk.stop)
        for indices_B in indices.split(instruments.batch(len(chunk))):
            started = time.perf_counter()
            samples = self._draw(instruments, indices_B)
            pixels_BHWC = self.domain(instruments).render(samples.reconstruction)
            guard.add(samples.reconstruction.float(), indices_B.numpy())
            seconds += time.perf_counter() - started  # the check has waited for the device
            counter.update(indices_B.numpy(), pixels_BHWC.permute(0, 3, 1, 2))
            cost += torch.stack([samples.nfe_B.sum(), samples.network_rows_B.sum().cpu()])
            shown.extend(pixels_BHWC[indices_B < self._grid_images()].cpu().numpy())
        guard.check()
        arrays = {
            "cost": cost.numpy(),
            "seconds": np.array(seconds),
            "machine": np.array(json.dumps(instruments.machine)),
        }
        if shown:
            arrays["shown"] = np.stack(shown)
        return arrays | counter.to_arrays("fake")

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """All metrics on all extractors, cost and grid."""
        rows: list[Row] = []
        remarks: list[str] = []
        totals, cost = Totals.zeros(("fake",), self.plans), _Cost()
        shown: list[np.ndarray] = []
        for chunk in chunks:
            totals.add(chunk)
            cost.add(chunk)
            shown += [chunk["shown"]] if "shown" in chunk else []
        totals.check_complete()
        nfe, passes = (cost.evaluations / self.total).tolist()
        for number in range(len(self.sources)):
            reference = load_reference(self.references[number], self.sources[number])
            statistics = totals.statistics["fake", number]
            rows += self._fidelity_rows(number, statistics, reference, nfe)
            if reference.kept_features is None:
                remarks.append(
                    f"{self.references[number]} keeps no features: no KID, precision, recall, "
                    "density and coverage. Build it with `evaluate.py reference`"
                )
        rows += self._cost_rows(cost, nfe, passes)
        return Outcome(
            suite=self.suite,
            protocol=f"{describe(self.sampling)}, {self.labels} classes, seed {self.seed}",
            rows=tuple(rows),
            remarks=tuple(remarks),
            files={"samples.png": png(self._grid(np.concatenate(shown)))},
        )

    def sampling_fields(self, nfe: float) -> dict[str, Any]:
        """Fields of a card about the sampling."""
        settings = self.sampling
        adaptive = settings.solver == "dopri5"
        return {
            "label_sampling": self.labels,
            "solver": settings.solver,
            "num_steps": 0 if adaptive else settings.num_steps,
            "atol": settings.atol if adaptive else 0.0,
            "rtol": settings.rtol if adaptive else 0.0,
            "step_control": "per sample" if adaptive else "",
            "nfe": nfe,
            "cfg_scale": settings.cfg_scale,
            "cfg_interval": settings.cfg_interval,
            "cfg_order": CFG_ORDER,
            "seed": self.seed,
        }

    def _draw(self, instruments: Instruments, indices_B: Tensor) -> Samples:
        model, device = self.model(instruments), instruments.device
        labels_B = self._labels(indices_B, model.domain.num_classes)
        seeds_B = sample_seeds(self.seed, indices_B)
        with instruments.autocast(self.precision):
            return draw(model, labels_B.to(device), self.sampling, seeds_B=seeds_B.to(device))

    def _labels(self, indices_B: Tensor, num_classes: int) -> Tensor:
        if self.labels == "balanced":
            return labels_in_turn(indices_B, num_classes)
        return uniform_labels(self.total, num_classes, self.seed)[indices_B]

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

    def _cost_rows(self, cost: _Cost, nfe: float, passes: float) -> list[Row]:
        row = "dopri5, balanced classes" if self.sampling.solver == "dopri5" else ""
        if self.sampling.solver == "heun" and self.sampling.num_steps == 50:
            row = "heun, 50 steps, balanced classes"
        paper = counterpart("nfe", suite="evaluation_protocol", row=row) if row else None
        fields = self.sampling_fields(nfe)
        rate = self.total / max(cost.seconds, 1e-9)
        made = {"details": {**cost.machine, "workers": 1}}
        return [
            Row(card=self.card("nfe", nfe, **fields), paper=paper),
            Row(card=self.card("passes", passes, **fields), note="nfe and those of guidance"),
            Row(card=self.card("images_per_s", rate, **fields, **made), note="of one worker"),
        ]

    def _grid_images(self) -> int:
        domain = self.subject.config.domain
        values = domain.channels * domain.size**2
        return max(1, min(GRID_IMAGES, GRID_VALUES // values))

    def _grid(self, images_BHWC: np.ndarray) -> np.ndarray:
        classes = self.subject.config.domain.num_classes
        return image_grid(images_BHWC, columns=min(10, classes, len(images_BHWC)))


class _Cost:
    """Cost of all chunks together."""

    def __init__(self) -> None:
        self.evaluations = np.zeros(2)
        """Evaluations of the velocity, and passes through the network."""
        self.seconds = 0.0
        self.machine: dict[str, str] = {}
        """Machine that computed them; all machines where chunks differ."""

    def add(self, chunk: Arrays) -> None:
        """Count a chunk in."""
        self.evaluations += chunk["cost"]
        self.seconds += float(chunk["seconds"])
        for name, value in json.loads(str(chunk["machine"])).items():
            seen = self.machine.setdefault(name, value)
            if value not in seen.split(" and "):
                self.machine[name] = f"{seen} and {value}"
