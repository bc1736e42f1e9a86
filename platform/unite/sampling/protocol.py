"""Protocol of samples and passes: its words and the rules for its values, without torch."""

from __future__ import annotations

from typing import Literal

from unite.config.schema import SamplingConfig
from unite.words import count

Condition = Literal["label", "null"]
"""Condition of the generation pass: the sample's own class, or the null class."""


def describe(settings: SamplingConfig) -> str:
    """The settings in a few words."""
    low, high = settings.cfg_interval
    adaptive = settings.solver == "dopri5"
    steps = f"rtol {settings.rtol:g}" if adaptive else f"{count(settings.num_steps, 'step')}"
    guided = f"guidance {settings.cfg_scale:g} for t in ({low:g}, {high:g})"
    return f"{settings.solver}, {steps}, {guided if settings.cfg_scale != 1 else 'no guidance'}"


def check_balanced(num: int, num_classes: int) -> None:
    """ValueError when `num` samples cannot be spread evenly over the classes."""
    if num % max(num_classes, 1):
        raise ValueError(
            f"{num} samples cannot be spread evenly over {num_classes} classes: use a multiple of "
            f"{num_classes}, or draw the classes at random"
        )


def check_levels(levels: tuple[float, ...]) -> None:
    """ValueError unless there are noise levels and each lies in [0, 1]."""
    if not levels or not all(0.0 <= t <= 1.0 for t in levels):
        raise ValueError(
            f"levels: {levels} must be one or more noise levels in [0, 1] (1 = clean data)"
        )
