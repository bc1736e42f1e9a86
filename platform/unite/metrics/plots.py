"""Figures of the analyses: alignment (Fig. 6), trajectory (Fig. 7), weight entropy (Section 4).

Each function returns PNG and SVG bytes, the same for the same data. Colours are those of Okabe and
Ito or of the cividis map, which the colour-blind can tell apart; series differ in marker or hatch
as well. The paper prints numbers for the entropy alone; they stand beside ours.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unite.metrics.noise_levels import Trajectory
from unite.metrics.pathways import Alignment
from unite.metrics.specs import spec_of
from unite.metrics.weight_entropy import GROUPS, PAPER_BINS, WeightEntropy
from unite.paper import TABLES

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
GROUP_STYLES = {
    "norm": ("#0072B2", "", "norms, adaLN"),
    "functional": ("#E69F00", "//", "attention, MLP"),
    "other": ("#C8C8C8", "..", "embeddings, heads"),
}
CLEAN = 1.12
"""Place of D(z0) on the axis of t: apart from t = 1, since it is no prediction."""
STYLE: dict[Any, object] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "unite",
}
DPI = 150


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A figure in both formats."""

    png: bytes
    svg: bytes


@dataclass(frozen=True, kw_only=True)
class _Series:
    label: str
    color: str | tuple[float, ...]
    marker: str
    values: np.ndarray
    band: tuple[np.ndarray, np.ndarray] | None = None


def plot_alignment(results: Mapping[str, Alignment]) -> Picture:
    """Fig. 6: CKA, CKNNA and cosine by block, and the final latents' cosine by t.

    One model: a line per noise level. Several, named by the keys: a line per model, its mean over
    the noise levels, in a band from the least to the greatest.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.2), layout="constrained")
        panels = figure.subplots(1, 4, sharey=True)
        names = {"cka": "Linear CKA", "cknna": "CKNNA", "cosine": "Cosine similarity"}
        for axes, (name, title) in zip(panels, names.items(), strict=False):
            for series in _block_series(results, name):
                _line(axes, np.arange(1, series.values.size + 1), series)
            axes.set(title=f"{title} of registers", xlabel="block")
            axes.xaxis.get_major_locator().set_params(integer=True)
        handles, labels = panels[0].get_legend_handles_labels()
        for index, (label, result) in enumerate(results.items()):
            _line(
                panels[3], result.config.levels, _model_series(label, result.latent_cosine, index)
            )
        panels[3].set(
            title="Cosine of final latents", xlabel="t (0 = noise, 1 = clean)", xlim=(-0.03, 1.03)
        )
        panels[0].set(ylabel="alignment (1 = same)", ylim=(min(0.0, panels[0].get_ylim()[0]), 1.04))
        figure.legend(handles, labels, loc="outside right center")
        figure.supxlabel(_caption(results), fontsize=8)
        return _render(figure)


def plot_trajectory(results: Mapping[str, Trajectory], metric: str = "psnr") -> Picture:
    """Fig. 7 in numbers: quality of D(z_hat(z_t)) by t, and apart from it that of D(z0)."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.6, 3.2), layout="constrained")
        axes = figure.subplots()
        for index, (label, result) in enumerate(results.items()):
            values = result.metrics[metric]
            series = _model_series(label, values[:-1], index)
            _line(axes, result.config.levels, series)
            axes.plot(CLEAN, values[-1], series.marker, color=series.color, fillstyle="none")
        axes.set(
            title="Decoded predictions along the trajectory",
            xlabel="t (0 = noise, 1 = clean)",
            ylabel=to_the_input(metric),
            xlim=(-0.03, CLEAN + 0.06),
        )
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1, CLEAN], ["0", "0.25", "0.5", "0.75", "1", "D(z0)"])
        axes.legend(loc="lower right")
        return _render(figure)


def to_the_input(metric: str) -> str:
    """Label of a metric between a reconstruction and its input."""
    row = spec_of(metric, "reconstruction")
    unit = f" ({row.unit})" if row and row.unit else ""
    return f"{row.name if row else metric} to the input{unit}"


def plot_entropy(results: Mapping[str, WeightEntropy]) -> Picture:
    """Section 4: weight entropy by group for each model or state; the paper's figures beside."""
    bins = sorted({result.bins for result in results.values()})
    if len(bins) != 1:
        raise ValueError(f"results: bin counts {bins} cannot be compared; measure with one")
    paper = {k: row for k, row in TABLES["entropy_mb"].rows.items() if "functional" in row}
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8.6, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        _bars(left, {label: result.megabytes() for label, result in results.items()})
        left.set_title(f"Measured, {bins[0]} bins over each tensor's range")
        _bars(right, paper)
        right.set_title("Paper, UNITE-B encoder (all but norms is one group)")
        right.set_xlabel(f"bins not given; {PAPER_BINS} reproduce the random encoder")
        handles, labels = left.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(GROUPS))
        return _render(figure)


def _block_series(results: Mapping[str, Alignment], name: str) -> list[_Series]:
    if len(results) > 1:
        curves = [(label, getattr(result, name)) for label, result in results.items()]
        return [
            _model_series(label, curve.mean(axis=0), index, (curve.min(axis=0), curve.max(axis=0)))
            for index, (label, curve) in enumerate(curves)
        ]
    (result,) = results.values()
    colors = mpl.colormaps["cividis"](np.linspace(0.0, 0.88, len(result.config.levels)))
    return [
        _Series(
            label=f"t = {t:g}", color=tuple(color), marker=MARKERS[i % len(MARKERS)], values=curve
        )
        for i, (t, color, curve) in enumerate(
            zip(result.config.levels, colors, getattr(result, name), strict=True)
        )
    ]


def _caption(results: Mapping[str, Alignment]) -> str:
    """Sample sizes and settings behind the curves; for several models, each distinct line."""
    texts = {
        f"{r.num_images} images, rows: {r.config.rows}s, CKNNA: k = {r.config.neighbors} of "
        f"{r.num_neighbor_rows} rows, class: {r.config.condition}"
        for r in results.values()
    }
    return "; ".join(sorted(texts))


def _model_series(
    label: str,
    values: np.ndarray,
    index: int,
    band: tuple[np.ndarray, np.ndarray] | None = None,
) -> _Series:
    color, marker = COLORS[index % len(COLORS)], MARKERS[index % len(MARKERS)]
    return _Series(label=label, color=color, marker=marker, values=values, band=band)


def _line(axes: Axes, x: Sequence[float] | np.ndarray, series: _Series) -> None:
    axes.plot(
        x, series.values, color=series.color, marker=series.marker, markersize=4, linewidth=1.4,
        label=series.label,
    )  # fmt: skip
    if series.band is not None:
        axes.fill_between(x, *series.band, color=series.color, alpha=0.15, linewidth=0)


def _bars(axes: Axes, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Stacked bars of the groups, MB, with the total above each."""
    bottom = np.zeros(len(rows))
    for group in GROUPS:
        color, hatch, label = GROUP_STYLES[group]
        heights = np.array([row.get(group, 0.0) for row in rows.values()])
        axes.bar(
            range(len(rows)), heights, 0.6, bottom,
            color=color, hatch=hatch, edgecolor="white", linewidth=0.5, label=label,
        )  # fmt: skip
        bottom += heights
    for position, total in enumerate(bottom):
        axes.text(position, total, f"{total:.4g}", ha="center", va="bottom")
    axes.set_xticks(range(len(rows)), [label.replace(" ", "\n", 2) for label in rows])
    axes.set_ylabel("weight entropy (MB)")
    axes.grid(axis="x", visible=False)
    axes.set_ylim(0, 1.12 * bottom.max())


def _render(figure: Figure) -> Picture:
    """PNG and SVG bytes without dates, so that the same data gives the same file."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(png=png.getvalue(), svg=svg.getvalue())
