"""Statistics of images on extractors, and what cards say of them: shared by the image suites.

Shapes: B batch, C channels, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from unite.evaluation.images.reference import Reference
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments
from unite.lazy import torch
from unite.metrics.fidelity import FidelityPlan, FidelityStatistics
from unite.metrics.neighbours import DC_NEIGHBOURS, KID_SEED, KID_SUBSET_SIZE, KID_SUBSETS
from unite.metrics.neighbours import PR_NEIGHBOURS as PR

if TYPE_CHECKING:
    from torch import Tensor

UINT8_RULE = "clamp to [0, 1], times 255, truncated"


def plan_of(source: ExtractorSource, total: int, *, moments_only: bool = False) -> FidelityPlan:
    """Plan of counting for an extractor; `moments_only` leaves just the Frechet distance."""
    if moments_only:
        return FidelityPlan(total=total, num_features=source.num_features, keep=0)
    return FidelityPlan(
        total=total, num_features=source.num_features, num_classes=source.num_classes
    )


def feature_totals(
    side: str, plans: Sequence[FidelityPlan], device: torch.device | str
) -> dict[str, FidelityStatistics]:
    """Empty statistics of a set of images on each extractor; `side` is real or fake."""
    return {
        f"{side}/{number}/": FidelityStatistics.zeros(plan, device)
        for number, plan in enumerate(plans)
    }


def count_features(
    totals: Mapping[str, Any],
    side: str,
    sources: Sequence[ExtractorSource],
    instruments: Instruments,
    indices_B: np.ndarray,
    pixels_BHWC: Tensor,
) -> None:
    """Count uint8 images into the statistics of a side."""
    for number, source in enumerate(sources):
        extractor = instruments.cached(source, lambda: source.build().to(instruments.device))  # noqa: B023
        statistics = totals[f"{side}/{number}/"]
        with torch.inference_mode():
            made = extractor.features(pixels_BHWC.permute(0, 3, 1, 2))
            logits_BC = made["logits"] if statistics.plan.num_classes else None
            statistics.update(indices_B, made["features"], logits_BC)


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
