"""Figure of a sweep: our metrics under their true names, and the paper's beside them.

Each seed is a dot, linked to its run in the SVG file; lines join the means, bars are one standard
deviation. The paper's figures are of ImageNet 256x256 and stand in panels of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unite.ablation.roles import LATENT_STD
from unite.ablation.verdict import (
    Measured,
    estimate,
    paper_cells,
    paper_value,
    shown_metrics,
    sources,
)
from unite.config.axes import Axis, Cell, Point
from unite.figures.chart import Figure, Panel, Series
from unite.metrics.specs import better_words, shown_name, spec_of

MOST_TICKS = 6


def sweep_figure(axis: Axis, measured: Sequence[Measured], caption: str = "") -> Figure:
    """Our panels, one for each metric, and the paper's in panels of their own."""
    panels = [_ours(axis, measured, metric) for metric in shown_metrics(axis, measured)]
    panels += [_paper(axis, name, cells) for name, cells in paper_cells(axis).items()]
    return Figure(
        panels=[panel for panel in panels if panel.series],
        legend=[(index, arm.name) for index, arm in enumerate(axis.arms) if arm.name],
        title=f"{axis.title} ({axis.source})",
        caption=caption,
    )


def metric_name(metric: str) -> str:
    """A logged metric as axes and tables name it: its true name, with its extractor."""
    row = spec_of(metric)
    if metric == LATENT_STD or row is None or row.elsewhere or not row.logged:
        return "latent/std" if metric == LATENT_STD else shown_name(metric)
    return f"held-out {row.name}" + (f" ({row.unit})" if row.unit else "")


def which_way(metric: str) -> str:
    """Direction of a sweep's metric, in words; for latent/std the meaning of 0."""
    return "0 = collapsed" if metric == LATENT_STD else better_words(metric)


def _ours(axis: Axis, measured: Sequence[Measured], metric: str) -> Panel:
    series = []
    for index, arm in enumerate(axis.arms):
        points = [(arm.name, value) for value in axis.fields]
        found = {point: estimate(measured, point, metric) for point in points}
        shown = {point: each for point, each in found.items() if each is not None}
        if shown:
            series += [
                _seeds(axis, measured, arm.name, metric, index),
                Series(
                    label=arm.name,
                    points=[(_place(axis, point[1]), each.mean) for point, each in shown.items()],
                    errors=[each.std or 0.0 for each in shown.values()],
                    index=index,
                    joined=axis.is_numeric,
                ),
            ]
    return _panel(axis, f"Ours: {metric_name(metric)}", metric, series)


def _seeds(axis: Axis, measured: Sequence[Measured], arm: str, metric: str, index: int) -> Series:
    """Small dots, one per seed, with links to their runs."""
    has = [each for each in measured if each.trial.arm == arm and metric in each.result.metrics]
    return Series(
        label="",
        points=[(_place(axis, each.trial.value), each.result.metrics[metric]) for each in has],
        links=[each.link or each.run for each in has],
        index=index,
        joined=False,
        faint=True,
    )


def _paper(axis: Axis, name: str, cells: Mapping[Point, Cell]) -> Panel:
    series = []
    for index, arm in enumerate(axis.arms):
        points = [
            (_place(axis, value), paper_value(cell))
            for (of, value), cell in cells.items()
            if of == arm.name
        ]
        if points:
            label = f"paper {arm.name}".strip()
            series.append(
                Series(label=label, points=points, index=index, joined=axis.is_numeric, dashed=True)
            )
    title = f"Paper: {name}, ImageNet 256x256"
    return _panel(axis, title, name, series, note=sources(cell.table for cell in cells.values()))


def _panel(axis: Axis, title: str, metric: str, series: Sequence[Series], note: str = "") -> Panel:
    step = 1 if len(axis.fields) <= MOST_TICKS else 5
    return Panel(
        title=title,
        x_label=axis.label.split(",")[0] if axis.is_numeric else "",
        y_label=which_way(metric),
        series=series,
        x_ticks=[(_place(axis, value), value) for value in list(axis.fields)[::step]],
        note=note,
    )


def _place(axis: Axis, value: str) -> float:
    """Place of a value on the horizontal axis, which is the same in every panel."""
    return float(value) if axis.is_numeric else float(list(axis.fields).index(value))
