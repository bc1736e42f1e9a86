"""The picture of a run's training dynamics (paper Fig. 4), drawn from its own history."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from unite.metrics.plots import COLORS, DPI, STYLE

History = Sequence[Mapping[str, float]]
"""Rows of a run's history: `images` and the metrics that were measured there."""

FLOW_NOTE = "flow loss per noising (rising is no failure, Fig. 4)"


def draw_curves(history: History, *, metric: str, collapse_std: float) -> bytes:
    """PNG of loss terms, flow loss, the held-out `metric` and latent/std against images seen."""
    names = {name for row in history for name in row}
    losses = [name for name in ("loss/l1", "loss/lpips") if name in names]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13.0, 2.8), layout="constrained")
        left, flow, held_out, spread = figure.subplots(1, 4)
        draw_lines(
            left, history, losses or ["loss/reconstruction"], "reconstruction, training images"
        )
        draw_lines(flow, history, ["loss/flow"], FLOW_NOTE)
        draw_lines(held_out, history, [metric], f"{metric}: held-out images, averaged weights", "o")
        draw_lines(spread, history, ["latent/std"], "latent/std (dashed: collapsed below)")
        spread.axhline(collapse_std, color=COLORS[1], linestyle="--", linewidth=1.0)
        spread.set_ylim(bottom=0.0)
        return _png(figure)


def draw_lines(
    panel: Axes, history: History, names: Sequence[str], title: str, marker: str | None = None
) -> None:
    """Metrics of a history against images seen, in one panel."""
    for color, name in zip(COLORS, names, strict=False):
        points = [(row["images"], row[name]) for row in history if name in row]
        if points:
            panel.plot(*zip(*points, strict=True), color=color, marker=marker, ms=3, label=name)
    panel.set_title(title, fontsize=8.5)
    panel.set_xlabel("images seen")
    panel.xaxis.set_major_formatter(EngFormatter(sep=""))
    if len(names) > 1:
        panel.legend()


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    return file.getvalue()
