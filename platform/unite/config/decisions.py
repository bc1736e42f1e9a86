"""Decisions on fields of a recipe that no source settles: variants, value and reason.

The sources are the paper's text and tables, the authors' released code with its configuration file,
and the two published checkpoints (METHOD 3). What they say plainly is no decision.
"""

from __future__ import annotations

from dataclasses import dataclass

from unite.config.recipes import is_laptop, variant_of
from unite.config.variants import LENGTH_FIELDS

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


CELLS = "domain.frac_code"
"""Decision on crystals alone."""
ATOMS: dict[str, str] = {
    "model.num_registers": "29 for QM9 and 20 for MP20, one register for each atom, masked. The "
    "paper leaves K open; so the decoder's outputs are aligned by index, and a size needs no "
    "predictor (METHOD 7)",
    "model.latent_dim": "16. The 16 dimensions of the paper are read as channels of an atom: 16 "
    "numbers cannot hold a whole molecule at 0.04 A (METHOD 7)",
    "model.decoder.depth": "12. The paper gives no size of the decoder: as deep and wide as the "
    "encoder, 21.5M parameters beside the encoder's 32.6M, which alone are its 33M (METHOD 7)",
    "model.encoder.rotary": "False. A register finds its atom by the index table that both share "
    "and by the pair bias; rotary positions route too, but slower (METHOD 7)",
    "model.encoder.pair_bias": "4. Not in the paper. 200 steps on QM9, held out: RMSD 0.095 A with "
    "it, 1.39 A with rotary positions, 2.33 A (chance) with neither (METHOD 7)",
    "model.encoder.in_context_tokens": "0. There is no class to tell (METHOD 7)",
    "domain.loss": "unite. Huber error in A: ADiT's squared error in nm is 1e-4 at 0.05 A and "
    "would drown beside a flow loss of about 1 on the same weights; `adit` has it (METHOD 7)",
    CELLS: "circle. Plain fractional coordinates jump at the cell's border, "
    "in the embedding and in the head: those of a small model stayed at chance for 230 steps, and "
    "as points on circles were learned within 100 (METHOD 7)",
    "domain.mean_atoms": "18. Sums over atoms are divided by samples times this constant, which is "
    "ADiT's mean over a batch's atoms in expectation, whatever the ranks and groups (METHOD 7)",
    "flow.steps": "4. The paper has 14 for images and no number here (METHOD 7)",
    "flow.reduction": "mean. With the sum the latent collapses while the reconstruction is weak "
    "(METHOD 7, METHOD 8)",
    "flow.warmup_fraction": "the first 2,000 steps. Without a ramp the flow loss pulls the latent "
    "to a constant before it carries anything (METHOD 7)",
    "flow.shift": "0. No shift: some 290 latent numbers are far below the 4,096 that motivate it "
    "on images (METHOD 7)",
    "reconstruction_noise.form": "interpolated. The paper's text writes z0 + 0.7 eps; its table "
    "and the image code mean t z0 + (1 - t) eps with t ~ U[0.7, 1] (METHOD 3.2)",
    "optim.lr_min": "0.0001, the rate itself: constant after the warm-up. The paper gives AdamW at "
    "1e-4 and no schedule (METHOD 7)",
    "optim.grad_clip": "3, as on images (METHOD 7)",
    "optim.ema_decay": "0.9999. Unstated; ADiT's (METHOD 7)",
    "sampling.cfg_scale": "1. There is nothing to guide on (METHOD 7)",
}
"""Field -> value and reason, for the recipes of molecules and crystals at the paper's scale."""
JOINT: dict[str, str] = {
    **{name: why for name, why in ATOMS.items() if not name.startswith(("domain.", "sampling."))},
    "model.num_registers": "29, one register for each atom of the larger kind, masked (METHOD 7)",
    "domain.crystals.frac_code": ATOMS[CELLS],
    "flow.class_dropout": "0.1, as on images: the class is the kind of a sample (METHOD 7)",
    "training.epochs": "8,000, those of QM9 alone. The paper trains the two apart (METHOD 7)",
    "sampling.cfg_scale": "2, towards the kind. Not in the paper and not measured (METHOD 7)",
}
"""Field -> value and reason, for molecules and crystals in one model."""


def decisions(recipe: str) -> dict[str, str]:
    """Field -> reason, for the decisions behind a recipe."""
    if recipe == "qm9-mp20":
        return JOINT
    if recipe in ("qm9", "mp20"):
        return {field: why for field, why in ATOMS.items() if recipe == "mp20" or field != CELLS}
    return {
        field: decision.why
        for field, decision in DECISIONS.items()
        if variant_of(recipe) in decision.variants
        and not (is_laptop(recipe) and field in LENGTH_FIELDS)
    }
