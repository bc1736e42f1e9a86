"""Direction of every metric that has one, higher or lower is better, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Direction = Literal["higher", "lower"]

DIRECTIONS: Mapping[str, Direction] = {
    "fid": "lower",
    "fd": "lower",
    "rfid": "lower",
    "rfd": "lower",
    "kid": "lower",
    "kd": "lower",
    "is": "higher",
    "cs": "higher",
    "precision": "higher",
    "recall": "higher",
    "density": "higher",
    "coverage": "higher",
    "psnr": "higher",
    "ssim": "higher",
    "lpips": "lower",
    "l1": "lower",
    "psnr_8bit": "higher",
    "l1_8bit": "lower",
    "top1_pct": "higher",
    "top5_pct": "higher",
    "flat_top1_pct": "higher",
    "flat_top5_pct": "higher",
}
"""Metric's name without its extractor -> direction. A metric that is not here (costs, curves,
entropies) describes a model: neither direction is better."""


def direction(metric: str) -> Direction | None:
    """Direction of a metric such as fd-digits-cnn or eval/reconstruction/psnr; None without one."""
    return DIRECTIONS.get(metric.rsplit("/", 1)[-1].partition("-")[0])


def higher_is_better(metric: str) -> bool:
    """True if larger values of `metric` are better."""
    return direction(metric) == "higher"
