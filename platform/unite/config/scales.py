"""The scales of an ablation: the same sweep in seconds, on a laptop, on one GPU, on a cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

ScaleName = Literal["smoke", "laptop", "molecules", "gpu", "paper"]
Fields = Mapping[str, object]
"""Dotted field of RunConfig -> value."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """A recipe, a length, and the protocol of each trial's measurement."""

    recipe: str
    epochs: float
    """Passes over the training set of a trial at the recipe's own setting."""
    seeds: int
    """Trials per point: seeds 0, 1, ..."""
    num_samples: int
    """Number of samples for distances. They are biased by N: one N for a sweep."""
    extractors: tuple[str, ...] = ()
    """Extractors of the distances, as in `jobs/evaluate.py --extractor`; each judges a sweep. None:
    the samples' own distances."""
    num_images: int = 0
    """Number of held-out samples that are reconstructed; 0 = all."""
    fields: Fields = field(default_factory=dict)
    """Further overrides of the recipe."""


SCALES: dict[ScaleName, Scale] = {
    "smoke": Scale(
        recipe="smoke",
        epochs=256 / 1500,
        seeds=1,
        num_samples=60,
        extractors=("pixels",),
        fields={"evaluation.every_images": 1_000_000, "checkpoint.every_images": 64},
    ),
    # 600 optimiser steps of 32 images instead of the recipe's 64: two seeds of Fig. 5 then fit into
    # 25 minutes on 2 cores, and in so short a run steps count for more than images.
    "laptop": Scale(
        recipe="digits",
        epochs=600 * 32 / 1500,
        seeds=2,
        num_samples=500,
        extractors=("pixels", "small"),
        fields={
            "training.batch_size": 32,
            # Three grids, so that one sees them change; half as large as the recipe's, they cost
            # a second more than a single one.
            "evaluation.every_images": 6_400,
            "evaluation.num_samples": 50,
            "checkpoint.every_images": 4_800,
            # As many trials at once as there are cores.
            "cluster.threads_per_worker": 1,
        },
    ),
    # 300 steps of 32, one to six minutes of a core for each trial; with --data of a part of QM9,
    # --epochs says as many steps. A sample's own distances (bonds) judge: no extractor knows it.
    "molecules": Scale(
        recipe="qm9-tiny",
        epochs=300 * 32 / 100_000,
        seeds=3,
        num_samples=200,
        num_images=512,
        fields={
            "training.batch_size": 32,
            "flow.warmup_fraction": 0.3,
            "optim.warmup_epochs": 50 * 32 / 100_000,
            "optim.ema_decay": 0.97,
            "evaluation.every_images": 4_800,
            "evaluation.num_images": 256,
            "evaluation.num_samples": 16,
            "checkpoint.every_images": 4_800,
            "cluster.threads_per_worker": 1,
        },
    ),
    "gpu": Scale(
        recipe="cifar10-gpu",
        epochs=30.0,
        seeds=2,
        num_samples=10_000,
        extractors=("small",),
    ),
    # The paper's ablations: Base backbone, 120 epochs (Table 6), trained as the checkpoints were.
    "paper": Scale(
        recipe="unite-b",
        epochs=120.0,
        seeds=1,
        num_samples=50_000,
        extractors=("inception",),
        fields={"cluster.use_gpu": True, "cluster.num_workers": 8},
    ),
}
