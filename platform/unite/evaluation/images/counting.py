"""Fidelity statistics per extractor, shared by generation, reconstruction and references.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from unite.evaluation.chunks import Arrays
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics
from unite.metrics.neighbours import DC_NEIGHBOURS, KID_SEED, KID_SUBSET_SIZE, KID_SUBSETS
from unite.metrics.neighbours import PR_NEIGHBOURS as PR

UINT8_RULE = "clamp to [0, 1], times 255, truncated"


def plan_of(source: ExtractorSource, total: int, *, moments_only: bool = False) -> FidelityPlan:
    """Plan of counting for an extractor; `moments_only` leaves just the Frechet distance."""
    if moments_only:
        return FidelityPlan(total=total, num_features=source.num_features, keep=0)
    return FidelityPlan(
        total=total, num_features=source.num_features, num_classes=source.num_classes
    )


@dataclass
class Counter:
    """Statistics of one set of images on several extractors."""

    sources: tuple[ExtractorSource, ...]
    plans: tuple[FidelityPlan, ...]
    instruments: Instruments

    def __post_init__(self) -> None:
        device = self.instruments.device
        self.statistics = [FidelityStatistics.zeros(plan, device) for plan in self.plans]

    @torch.inference_mode()
    def update(self, indices_B: np.ndarray, pixels_BCHW: Tensor) -> None:
        """Count uint8 images in."""
        for source, plan, statistics in zip(self.sources, self.plans, self.statistics, strict=True):
            made = self.instruments.extractor(source).features(pixels_BCHW)
            logits_BC = made["logits"] if plan.num_classes else None
            statistics.update(indices_B, made["features"], logits_BC)

    def to_arrays(self, prefix: str) -> dict[str, np.ndarray]:
        """Arrays for a chunk."""
        return {
            f"{prefix}/{number}/{name}": array
            for number, statistics in enumerate(self.statistics)
            for name, array in statistics.to_arrays().items()
        }


@dataclass
class Totals:
    """Sums of chunks, side by side for every set of images and extractor that they counted."""

    statistics: Mapping[tuple[str, int], FidelityStatistics]
    """(prefix of `Counter.to_arrays`, number of the extractor) -> its statistics."""

    @classmethod
    def zeros(cls, prefixes: Sequence[str], plans: Sequence[FidelityPlan]) -> Totals:
        """Empty totals."""
        return cls(
            {
                (prefix, number): FidelityStatistics.zeros(plan)
                for prefix in prefixes
                for number, plan in enumerate(plans)
            }
        )

    def add(self, chunk: Arrays) -> None:
        """Count a chunk in; they must come in the order of their index."""
        for (prefix, number), total in self.statistics.items():
            start = f"{prefix}/{number}/"
            names = (name for name in chunk if name.startswith(start))
            arrays = {name.removeprefix(start): chunk[name] for name in names}
            total.add(FidelityStatistics.from_arrays(total.plan, arrays))

    def check_complete(self, left_out: int = 0) -> None:
        """MetricError unless each sample was counted once, `left_out` known ones not at all."""
        for total in self.statistics.values():
            total.check_complete(left_out)


def load_reference(uri: str, source: ExtractorSource) -> Reference:
    """A reference that was found to fit an extractor; bare mu and sigma do not name theirs."""
    return replace(Reference.load(uri), extractor=source.id)


def extractor_fields(source: ExtractorSource) -> dict[str, Any]:
    """Fields of a card about the extractor."""
    return {
        "extractor": source.name,
        "extractor_digest": source.digest,
        "resize": source.id.resize,
        "uint8_rule": UINT8_RULE,
    }


def reference_fields(reference: Reference, encoding: str) -> dict[str, Any]:
    """Fields of a card about the reference statistics, without their place.

    `encoding`: of the data set that they are compared with; of others' files it is not known.
    """
    made = asdict(reference.made)
    made.pop("data")
    text = ", ".join(f"{name} {value}" for name, value in made.items() if value)
    count = f"{reference.num:,} images" if reference.num else "unknown number of images"
    return {
        "reference": reference.digest,
        "reference_made": f"{count}, {text or 'rule unknown'}",
        "reference_encoding": encoding if reference.made.data_digest else "unknown",
    }


def metric_details(base: str, plan: FidelityPlan, reference: Reference) -> dict[str, Any]:
    """Settings of a fidelity metric besides the features."""
    kept = 0 if reference.kept_features is None else len(reference.kept_features)
    kept_sides = {"kept": min(plan.keep, plan.total), "reference_kept": kept}
    size = min(KID_SUBSET_SIZE, *kept_sides.values())
    kid = {"subsets": KID_SUBSETS, "subset_size": size, "subset_seed": KID_SEED, **kept_sides}
    score = {"splits": plan.splits, "split_seed": plan.seed}
    details: Mapping[str, dict[str, Any]] = {
        "is": score,
        "is_std": score,
        "kid": kid,
        "kid_std": kid,
        "precision": {"neighbours": PR, **kept_sides},
        "recall": {"neighbours": PR, **kept_sides},
        "density": {"neighbours": DC_NEIGHBOURS, **kept_sides},
        "coverage": {"neighbours": DC_NEIGHBOURS, **kept_sides},
    }
    return details.get(base, {})
