"""Length of a run; learning rate and flow weight as pure functions of the images seen (METHOD 3;
paper Table 8).

`images_seen` is the loop's counter before the step. The learning rate is that of the step's end, so
that the first step is not lost to a rate of 0 and the last one has the final rate; the flow ramp
starts at 0. Nothing here has state, so a resumed run continues on the same curve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unite.config.finetune import as_trained
from unite.config.schema import FlowConfig, OptimConfig, RunConfig


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Length of a run in images, from the size of the training set."""

    images_per_epoch: int
    batch_size: int
    total_images: int

    @classmethod
    def of(cls, config: RunConfig, images_per_epoch: int) -> Plan:
        """Whole optimiser steps covering `training.epochs` (fine-tuning: its own) passes."""
        training = as_trained(config).training
        batch = training.batch_size
        steps = math.ceil(training.epochs * images_per_epoch / batch)
        return cls(images_per_epoch=images_per_epoch, batch_size=batch, total_images=steps * batch)


def peak_learning_rate(config: OptimConfig, *, batch_size: int) -> float:
    """Learning rate after warm-up: lr * max(1, batch / lr_batch_reference); 0 = no batch rule."""
    if not config.lr_batch_reference:
        return config.lr
    return config.lr * max(1.0, batch_size / config.lr_batch_reference)


def learning_rate(
    images_seen: int,
    config: OptimConfig,
    *,
    batch_size: int,
    images_per_epoch: int,
    total_images: int,
) -> float:
    """Learning rate of the step from `images_seen` to `images_seen + batch_size`.

    Muon and AdamW share it. `images_per_epoch` is the size of the training set, `total_images` the
    length of the run.
    """
    position = images_seen + batch_size
    peak = peak_learning_rate(config, batch_size=batch_size)
    warmup = config.warmup_epochs * images_per_epoch
    if position < warmup:
        return peak * position / warmup
    if config.schedule == "plateau":
        begin, end = (epoch * images_per_epoch for epoch in config.plateau_epochs)
        return _half_cosine(position, begin, end, peak, peak / 2)
    # A peak below lr_min stays where it is: a decay must never rise.
    return _half_cosine(position, warmup, total_images, peak, min(config.lr_min, peak))


def flow_weight(images_seen: int, config: FlowConfig, *, total_images: int) -> float:
    """w_g of the step that starts at `images_seen`: a ramp from 0 over `warmup_fraction`."""
    ramp = config.warmup_fraction * total_images
    return config.weight * (min(1.0, images_seen / ramp) if ramp > 0 else 1.0)


def _half_cosine(position: float, begin: float, end: float, high: float, low: float) -> float:
    """`high` up to `begin`, `low` from `end` on, half a cosine period in between."""
    progress = (position - begin) / (end - begin) if end > begin else 1.0
    progress = min(max(progress, 0.0), 1.0)
    return low + 0.5 * (high - low) * (1.0 + math.cos(math.pi * progress))
