"""Direction of every metric that has one, higher or lower is better, in one table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from unite.metrics.card import MetricCard, differences
from unite.metrics.moments import MetricError

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


def why_not_better(new: MetricCard, old: MetricCard) -> str:
    """Reason in words why `new` is not better than `old` under one protocol; empty when it is.

    MetricError when the metric has no better direction.
    """
    better = direction(new.metric)
    if better is None:
        raise MetricError(
            f"{new.metric}: neither higher nor lower is better; compare one of: "
            f"{', '.join(DIRECTIONS)} (distances with their extractor, as fd-digits-cnn)"
        )
    found = differences(new, old)
    if found:
        fields = "; ".join(f"{name} {a!r} against {b!r}" for name, (a, b) in found.items())
        return f"{new.metric} was measured differently: {fields}"
    gain = new.value - old.value if better == "higher" else old.value - new.value
    return "" if gain > 0 else f"{new.metric} {new.value:g} is not {better} than {old.value:g}"
