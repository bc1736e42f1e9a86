"""Checks of a fine-tuning's whole config before Ray or an accelerator is touched.

Every message names the field, its value and what to do. All problems are reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from unite.config.effects import without_effect
from unite.config.finetune import (
    SECTIONS,
    DiscriminatorConfig,
    FinetuneRunConfig,
    as_trained,
)
from unite.config.serialise import diff, flatten
from unite.config.validate import (
    LPIPS_SMALLEST_SIDE,
    number_problems,
    validate,
    worker_problems,
)

FEW_STEPS = 200
"""Optimiser steps under which a fine-tuning is remarked on: its averaged decoder hardly moves."""
POSITIVE = (
    "finetune.epochs",
    "finetune.lr",
    "finetune.batch_size",
    "finetune.accumulation",
    "finetune.log_every_steps",
    "adversarial.max_weight",
)
NOT_NEGATIVE = (
    "finetune.lr_min",
    "finetune.warmup_epochs",
    "adversarial.weight",
    "adversarial.lecam",
    "adversarial.discriminator_start",
)
WITHOUT_ADVERSARY = ("mode", "max_weight", "loss", "discriminator_start", "adversarial_start")


def validate_finetune(config: FinetuneRunConfig) -> FinetuneRunConfig:
    """The config itself when it is sound; ValueError lists every problem otherwise."""
    problems = [*_finetune(config), *_adversarial(config), *_discriminator(config)]
    if problems:
        raise ValueError("the fine-tuning cannot run:\n" + "\n".join(f"  {p}" for p in problems))
    validate(as_trained(config))
    return config


def _finetune(config: FinetuneRunConfig) -> Iterator[str]:
    values: dict[str, Any] = {}
    for section in SECTIONS:
        values |= flatten(getattr(config, section), f"{section}.")
    yield from number_problems(values, positive=POSITIVE, not_negative=NOT_NEGATIVE)
    if not all(0 <= beta < 1 for beta in config.finetune.betas):
        yield f"finetune.betas = {config.finetune.betas} must lie in 0..1, below 1"
    if not 0 <= config.finetune.ema_decay <= 1:
        yield f"finetune.ema_decay = {config.finetune.ema_decay} must lie in 0..1"
    tune = config.finetune
    if min(tune.batch_size, tune.accumulation) > 0:
        yield from worker_problems(config.cluster, tune.batch_size, tune.accumulation, "finetune")


def _adversarial(config: FinetuneRunConfig) -> Iterator[str]:
    given, epochs = config.adversarial, config.finetune.epochs
    if given.adversarial_start < given.discriminator_start:
        yield (
            f"adversarial.adversarial_start = {given.adversarial_start} is before "
            f"adversarial.discriminator_start = {given.discriminator_start}: an adversary that has "
            "seen nothing would judge the decoder; raise the first or lower the second"
        )
    if given.weight > 0 and given.adversarial_start >= epochs:
        yield (
            f"adversarial.adversarial_start = {given.adversarial_start} is past the end, "
            f"finetune.epochs = {epochs}: the decoder would never feel the adversary; lower it, or "
            "set adversarial.weight to 0 for the control without an adversary"
        )


def _discriminator(config: FinetuneRunConfig) -> Iterator[str]:
    given, depth = config.discriminator, config.model.encoder.depth
    outside = [tap for tap in given.taps if not 0 <= tap < depth]
    if outside:
        yield (
            f"discriminator.taps = {given.taps}: {outside[0]} is no index of a block; the encoder "
            f"has {depth}, 0..{depth - 1}"
        )
    if not 0 <= given.augment_probability <= 1:
        yield (f"discriminator.augment_probability = {given.augment_probability} must lie in 0..1")
    if not 0 <= given.augment_shift < 1:
        yield f"discriminator.augment_shift = {given.augment_shift} must be at least 0 and below 1"
    if given.trunk_lr_scale < 0:
        yield (
            f"discriminator.trunk_lr_scale = {given.trunk_lr_scale} must not be negative; "
            "discriminator.trunk frozen trains the heads alone"
        )


def finetune_warnings(config: FinetuneRunConfig, *, num_steps: int) -> list[str]:
    """Warnings of settings that run but are hardly meant, for `num_steps` optimiser steps."""
    found = []
    given, weight = config.discriminator, config.adversarial.weight
    if weight > 0 and given.trunk == "frozen" and given.init == "random":
        found.append(
            "discriminator.trunk frozen with discriminator.init random: the adversary judges by "
            "features that nothing has trained; use init generative_encoder or trunk trained"
        )
    side = getattr(config.domain, "size", 0)
    if weight > 0 and config.loss.perceptual.weight == 0 and side >= LPIPS_SMALLEST_SIDE:
        found.append(
            f"loss.perceptual.weight = 0 at {side} pixels: L1 and an adversary alone; the paper "
            "has LPIPS beside them"
        )
    if num_steps < FEW_STEPS:
        found.append(
            f"the decoder is trained for {num_steps} steps only, and its average keeps "
            f"{config.finetune.ema_decay**num_steps:.0%} of the parent's: raise finetune.epochs; "
            "the recipe `small` is made for small data sets"
        )
    return found


def require_finetune_effect(config: FinetuneRunConfig, base: FinetuneRunConfig) -> None:
    """ValueError for options that were changed from `base`, recipe and parent, and do nothing."""
    changed = {name for name, _, _ in diff(base, config)}
    needed = without_effect(flatten(config), changed)
    if config.adversarial.weight == 0:
        names = [f"adversarial.{name}" for name in WITHOUT_ADVERSARY] + ["adversarial.lecam"]
        names += [f"discriminator.{name}" for name in vars(DiscriminatorConfig())]
        needed |= dict.fromkeys(names, "adversarial.weight above 0")
    if config.adversarial.mode == "fixed":
        needed["adversarial.max_weight"] = "adversarial.mode adaptive"
    if config.discriminator.trunk == "frozen":
        needed["discriminator.trunk_lr_scale"] = "discriminator.trunk trained"
    if config.discriminator.augment_probability == 0:
        for name in ("augment_shift", "augment_colour"):
            needed[f"discriminator.{name}"] = "discriminator.augment_probability above 0"
    useless = [
        f"  --{name.replace('_', '-')} needs {why}"
        for name, why in needed.items()
        if name in changed
    ]
    if useless:
        raise ValueError("options without effect:\n" + "\n".join(useless))
