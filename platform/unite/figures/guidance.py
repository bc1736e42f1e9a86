"""Distance against the guidance scale."""

from __future__ import annotations

from collections.abc import Mapping

from unite.figures.chart import Figure, Panel, Series
from unite.metrics.specs import shown_name


def guidance_figure(
    distances: Mapping[float, float], shares: Mapping[float, float], best: float, metric: str
) -> Figure:
    """Distances by guidance scale; those of a part of the samples (`shares` < all) are hollow."""
    whole = max(shares.values())
    name = shown_name(metric)
    series = [
        Series(
            label=words, points=[(s, d) for s, d in sorted(distances.items()) if fits(s)],
            joined=False, dashed=not full,
        )
        for words, full, fits in (
            ("all samples", True, lambda scale: shares[scale] == whole),
            ("a part of the samples", False, lambda scale: shares[scale] < whole),
        )
    ]  # fmt: skip
    ends = (min(distances.values()), max(distances.values()))
    series.append(Series(label="best", points=[(best, y) for y in ends], index=1, marked=False))
    panel = Panel(
        title=f"Best at {best:g} (hollow: a part of the samples)",
        x_label="guidance scale", y_label=name, series=series,
    )  # fmt: skip
    return Figure(panels=[panel])
