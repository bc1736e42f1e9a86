"""The figure of a sweep: our metrics under their true names, and the paper's beside them.

Each seed is a dot, linked to its run in the SVG; lines join the means, bars are one standard
deviation. The paper's figures are of ImageNet 256x256 and stand in panels of their own.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unite.ablation.verdict import (
    LATENT_STD,
    PSNR,
    Measured,
    estimate,
    paper_cells,
    paper_value,
    shown_metrics,
)
from unite.config.axes import Axis, Cell, Point
from unite.metrics.plots import COLORS, DPI, MARKERS, STYLE, Picture
from unite.metrics.specs import higher_is_better, shown_name
from unite.paper import TABLES

PANEL_INCHES = (3.7, 3.1)
MOST_COLUMNS = 3
DODGE = 0.012
"""Distance between arms at one value, as a share of the axis' range."""
NAMES = {PSNR: "held-out PSNR (dB)", LATENT_STD: "latent/std"}


def draw(axis: Axis, measured: Sequence[Measured], caption: str) -> Picture:
    """PNG and SVG of a sweep's finished trials, with `caption` below."""
    metrics, paper = shown_metrics(axis, measured), paper_cells(axis)
    count = len(metrics) + len(paper)
    columns = min(count, MOST_COLUMNS)
    rows = math.ceil(count / columns)
    with mpl.rc_context(STYLE):
        width, height = PANEL_INCHES
        figure = Figure(figsize=(width * columns, height * rows + 0.8), layout="constrained")
        panels: list[Axes] = list(figure.subplots(rows, columns, squeeze=False).flatten())
        for panel, metric in zip(panels, metrics, strict=False):
            _ours(panel, axis, measured, metric)
        for panel, (name, cells) in zip(panels[len(metrics) : count], paper.items(), strict=True):
            _paper(panel, axis, name, cells)
        for panel in panels[count:]:
            panel.set_visible(False)
        if len(axis.arms) > 1:
            handles, labels = _all_arms(panels)
            figure.legend(handles, labels, loc="outside lower center", ncols=len(labels))
        figure.suptitle(
            f"{axis.title} ({axis.source})\n{textwrap.fill(caption, 44 * columns)}", fontsize=9
        )
        return render(figure)


def render(figure: Figure) -> Picture:
    """PNG and SVG bytes without dates, so that the same data gives the same file."""
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DPI, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return Picture(png=png.getvalue(), svg=svg.getvalue())


def metric_name(metric: str) -> str:
    """A logged metric as axes and tables name it: its true name, with its extractor."""
    return NAMES.get(metric, shown_name(metric.rsplit("/", 1)[-1]))


def which_way(metric: str) -> str:
    """Direction of a sweep's metric, in words; for latent/std the meaning of 0."""
    if metric == LATENT_STD:
        return "0 = collapsed"
    return f"{'higher' if higher_is_better(metric.lower()) else 'lower'} is better"


def _ours(panel: Axes, axis: Axis, measured: Sequence[Measured], metric: str) -> None:
    name = metric_name(metric)
    for index, arm in enumerate(axis.arms):
        points = [(arm.name, value) for value in axis.fields]
        found = {point: estimate(measured, point, metric) for point in points}
        shown = {point: each for point, each in found.items() if each is not None}
        if not shown:
            continue
        places = [_place(axis, point, index) for point in shown]
        panel.errorbar(
            places, [each.mean for each in shown.values()],
            yerr=[each.std or 0.0 for each in shown.values()],
            color=COLORS[index], marker=MARKERS[index], markersize=5, capsize=3, linewidth=1.4,
            linestyle="-" if axis.is_numeric else "none", label=arm.name,
        )  # fmt: skip
        _dots(panel, axis, [each for each in measured if each.trial.arm == arm.name], metric, index)
    panel.set(title=f"ours: {name}", ylabel=f"{name}, {which_way(metric)}")
    _abscissa(panel, axis)


def _dots(panel: Axes, axis: Axis, measured: Sequence[Measured], metric: str, index: int) -> None:
    """Draw one small dot per seed, with a link to its run."""
    has = [each for each in measured if metric in each.result.metrics]
    dots = panel.scatter(
        [_place(axis, each.trial.point, index) for each in has],
        [each.result.metrics[metric] for each in has],
        s=9, color=COLORS[index], alpha=0.5, linewidths=0, zorder=3,
    )  # fmt: skip
    dots.set_urls([each.link or each.run for each in has])


def _paper(panel: Axes, axis: Axis, name: str, cells: Mapping[Point, Cell]) -> None:
    for index, arm in enumerate(axis.arms):
        points = [point for point in cells if point[0] == arm.name]
        if points:
            panel.plot(
                [_place(axis, point, index) for point in points],
                [paper_value(cells[point]) for point in points],
                color=COLORS[index], marker=MARKERS[index], fillstyle="none", linewidth=1.0,
                linestyle="--" if axis.is_numeric else "none",
            )  # fmt: skip
    sources = "; ".join(dict.fromkeys(TABLES[cell.table].source for cell in cells.values()))
    panel.set(title=f"paper: {name}, ImageNet 256x256", ylabel=f"{name}, {which_way(name)}")
    panel.text(0.02, 0.02, textwrap.fill(sources, 34), transform=panel.transAxes, fontsize=7)
    panel.margins(y=0.25)
    _abscissa(panel, axis)


def _all_arms(panels: Sequence[Axes]) -> tuple[list[Artist], list[str]]:
    """Legend entries of every arm that has a point somewhere."""
    found: dict[str, Any] = {}
    for panel in panels:
        found |= dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    return list(found.values()), list(found)


def _place(axis: Axis, point: Point, index: int) -> float:
    """Place of a point on the horizontal axis; `index` is its arm's."""
    places = _places(axis)
    dodge = DODGE * (max(places) - min(places)) * (index - (len(axis.arms) - 1) / 2)
    return places[list(axis.fields).index(point[1])] + dodge


def _places(axis: Axis) -> list[float]:
    return [float(value) if axis.is_numeric else i for i, value in enumerate(axis.fields)]


def _abscissa(panel: Axes, axis: Axis) -> None:
    """Draw the horizontal axis, which is the same in every panel."""
    places = _places(axis)
    names = [textwrap.fill(value, 10) for value in axis.fields]
    step = 1 if len(names) <= 6 else 5
    panel.set_xticks(places[::step], names[::step])
    margin = 0.06 * (max(places) - min(places)) if axis.is_numeric else 0.5
    panel.set_xlim(min(places) - margin, max(places) + margin)
    panel.set_xlabel(textwrap.fill(axis.label, 44))
