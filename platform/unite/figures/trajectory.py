"""Quality of decoded predictions along the denoising trajectory (paper Fig. 7 in numbers)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unite.figures.chart import TIME, Figure, Panel, Series
from unite.metrics.specs import spec_of

CLEAN = 1.12
"""Place of D(z0) on the axis of t: apart from t = 1, since it is no prediction."""
QUARTERS = [(quarter / 4, f"{quarter / 4:g}") for quarter in range(5)]


@dataclass(frozen=True, kw_only=True)
class TrajectoryCurve:
    """A reconstruction metric by noise level."""

    metric: str
    levels: Sequence[float]
    values: Sequence[float]
    """Value of D(z_hat(z_t)) at each level."""
    clean: float | None
    """Value of D(z0)."""


def trajectory_figure(results: Mapping[str, TrajectoryCurve]) -> Figure:
    """Quality of D(z_hat(z_t)) by t, and apart from it that of D(z0); a line for each model."""
    series: list[Series] = []
    for index, (label, curve) in enumerate(results.items()):
        points = list(zip(curve.levels, curve.values, strict=True))
        series.append(Series(label=label, points=points, index=index))
        clean = [] if curve.clean is None else [(CLEAN, curve.clean)]
        series.append(Series(label=f"{label}, D(z0)", points=clean, index=index, dashed=True))
    metrics = dict.fromkeys(to_the_input(curve.metric) for curve in results.values())
    panel = Panel(
        title="Decoded predictions along the trajectory",
        x_label=TIME,
        y_label=", ".join(metrics),
        series=series,
        x_ticks=[*QUARTERS, (CLEAN, "D(z0)")],
    )
    return Figure(panels=[panel], legend=list(enumerate(results)))


def to_the_input(metric: str) -> str:
    """Label of a metric between a reconstruction and its input: PSNR to the input (dB)."""
    row = spec_of(metric, "reconstruction")
    unit = f" ({row.unit})" if row and row.unit else ""
    return f"{row.name if row else metric} to the input{unit}"
