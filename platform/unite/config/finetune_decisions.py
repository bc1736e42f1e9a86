"""Decisions on the settings of the decoder's fine-tuning, field by field (METHOD 6).

The paper's Appendix A says: frozen encoder, decoder alone, 16 epochs, an additional GAN loss, a
discriminator initialised from the Generative Encoder. All else is decided here. RAE's decoder stage
is the likely model: its 16 epochs and weight average of 0.9978 are UNITE's own numbers.
"""

from __future__ import annotations

_RAE = "as RAE's decoder stage"

FINETUNE_DECISIONS: dict[str, str] = {
    "finetune.epochs": "16, the paper's Appendix A",
    "finetune.lr": f"2e-4 for both players, {_RAE}",
    "finetune.lr_min": f"2e-5 by a cosine, {_RAE}",
    "finetune.warmup_epochs": f"1, {_RAE}",
    "finetune.betas": f"0.9, 0.95, {_RAE}",
    "finetune.ema_decay": "0.9978, as in UNITE's joint training and RAE's decoder stage",
    "finetune.batch_size": f"512, {_RAE}",
    "finetune.accumulation": "1; it changes memory and not the step, the adaptive weight included",
    "finetune.precision": "float32, as RAE's authors recommend: their bfloat16 runs were worse",
    "finetune.start_from": "ema for encoder and decoder: the paper evaluates averaged weights",
    "finetune.seed": "0; nothing is known of the paper's",
    "finetune.log_every_steps": "50, as in joint training",
    "adversarial.weight": f"0.75, {_RAE}",
    "adversarial.mode": "adaptive as in VQGAN and RAE, of the global batch: the ratio of each rank "
    "or micro-batch would depend on their number",
    "adversarial.max_weight": "1e4, as in VQGAN; reaching it is told, not silently cut",
    "adversarial.loss": f"hinge, {_RAE}",
    "adversarial.discriminator_start": "0: the decoder has converged. RAE waits until epoch 6 for "
    "a decoder trained from scratch (recipe rae)",
    "adversarial.adversarial_start": "1, the discriminator's own warm-up. RAE waits until epoch 8 "
    "(recipe rae)",
    "adversarial.lecam": "0: no regulariser, as in RAE. R1 would go backward twice through fused "
    "attention, which it cannot",
    "discriminator.init": "generative_encoder, the paper's Appendix A",
    "discriminator.trunk": "trained: that is what `initialised` says. RAE's trunk is a frozen DINO",
    "discriminator.trunk_lr_scale": "1: nothing is known",
    "discriminator.taps": "the last block of each third; RAE has heads on five depths of DINO-S/8",
    "discriminator.features": "registers, which are what the encoder was trained to fill; tokens "
    "give a verdict per patch as PatchGAN does",
    "discriminator.augment_probability": f"1, {_RAE}",
    "discriminator.augment_shift": "1/8, as DiffAug",
    "discriminator.augment_colour": "true, as DiffAug; no cutout, as RAE",
}
"""Field -> value and reason."""
