"""Decisions on fields of a recipe that no source settles: variants, value and reason.

The sources are the paper's text and tables, the authors' released code with its configuration file,
and the two published checkpoints (METHOD 3). What they say plainly is no decision.
"""

from __future__ import annotations

from dataclasses import dataclass

from unite.config.recipes import LENGTH_FIELDS, is_laptop, variant_of

_STAGES = (
    "The released scheduler counts its stages (20, 30, 50) in loader batches but steps once per "
    "optimiser step. At the shipped 8 GPUs and batch 1024 a step takes 2 batches: warm-up ends at "
    "real epoch 40, the rate is flat to 60 and halved by 100. How many batches a step had when the "
    "checkpoints were trained is not published; the shipped 2 are taken for them too (METHOD 3)"
)


@dataclass(frozen=True)
class Decision:
    """The variants that a decision holds for, and its reason."""

    variants: tuple[str, ...]
    why: str


DECISIONS: dict[str, Decision] = {
    "reconstruction_noise.form": Decision(
        ("paper", "released", "checkpoints"),
        "interpolated. The paper's text writes z0 + sigma eps (`additive`), but its Table 6 calls "
        "sigma = 1 no augmentation and sigma = 0 full noise, and its text calls the noise of 0.7 "
        "small: that is t z0 + (1 - t) eps with t ~ U[sigma, 1], as released (METHOD 3.2)",
    ),
    "model.init": Decision(
        ("paper",),
        "xavier. The paper does not say how weights start; Xavier-uniform is what the released "
        "code asks for wherever it sets them itself (METHOD 1)",
    ),
    "loss.perceptual.input_range": Decision(
        ("paper",),
        "-1..1. The paper says LPIPS and no more; that is the range its network was made for, and "
        "the released code feeds [0, 1] (METHOD 3)",
    ),
    "optim.muon_eps": Decision(
        ("paper",), "1e-07. The paper names Muon and no epsilon: torch's default (METHOD 3)"
    ),
    "optim.warmup_epochs": Decision(("released", "checkpoints"), f"40. {_STAGES}"),
    "optim.plateau_epochs": Decision(
        ("released", "checkpoints"), "(60.0, 100.0). See optim.warmup_epochs (METHOD 3)"
    ),
    "training.epochs": Decision(
        ("checkpoints",),
        "240 for B and 120 for L, as published. No XL checkpoint is published: 240, which Table 8 "
        "gives for all sizes (METHOD 3)",
    ),
}


def decisions(recipe: str) -> dict[str, str]:
    """Field -> reason, for the decisions behind a recipe."""
    return {
        field: decision.why
        for field, decision in DECISIONS.items()
        if variant_of(recipe) in decision.variants
        and not (is_laptop(recipe) and field in LENGTH_FIELDS)
    }
