"""Charts of a sweep: ours, a panel for each metric, and the paper's in panels of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unite.ablation.figure import metric_name, which_way
from unite.ablation.verdict import Measured, estimate, paper_cells, paper_value
from unite.config.axes import Axis, Cell, Point
from unite.paper import TABLES
from unite.reporting.figures import Figure, Panel, Series


def sweep_figure(axis: Axis, measured: Sequence[Measured], metrics: Sequence[str]) -> Figure:
    """Our panels, a metric each, and the paper's in panels of their own."""
    panels = [_ours(axis, measured, metric) for metric in metrics]
    panels += [_paper(axis, name, cells) for name, cells in paper_cells(axis).items()]
    arms = [(index, arm.name) for index, arm in enumerate(axis.arms) if arm.name]
    return Figure(panels=[panel for panel in panels if panel.series], legend=arms)


def _ours(axis: Axis, measured: Sequence[Measured], metric: str) -> Panel:
    series = []
    for index, arm in enumerate(axis.arms):
        found = {
            value: each
            for value in axis.fields
            if (each := estimate(measured, (arm.name, value), metric)) is not None
        }
        if found:
            series.append(
                Series(
                    label=arm.name,
                    points=[(_place(axis, value), each.mean) for value, each in found.items()],
                    errors=[each.std or 0.0 for each in found.values()],
                    index=index,
                    joined=axis.is_numeric,
                )
            )
    name = metric_name(metric)
    return Panel(
        title=f"Ours: {name}", x_label=axis.label.split(",")[0] if axis.is_numeric else "",
        y_label=f"{name}, {which_way(metric)}", series=series, x_ticks=_ticks(axis),
    )  # fmt: skip


def _paper(axis: Axis, name: str, cells: Mapping[Point, Cell]) -> Panel:
    series = []
    for index, arm in enumerate(axis.arms):
        points = [
            (_place(axis, value), paper_value(cell))
            for (of, value), cell in cells.items()
            if of == arm.name
        ]
        if points:
            series.append(
                Series(
                    label=f"paper {arm.name}".strip(),
                    points=points,
                    index=index,
                    joined=axis.is_numeric,
                    dashed=True,
                )  # fmt: skip
            )
    sources = dict.fromkeys(TABLES[cell.table].source for cell in cells.values())
    return Panel(
        title=f"Paper: {name}, ImageNet 256x256",
        x_label=axis.label.split(",")[0] if axis.is_numeric else "",
        y_label=f"{name}, {which_way(name)}",
        series=series,
        x_ticks=_ticks(axis),
        note="; ".join(sources),
    )


def _place(axis: Axis, value: str) -> float:
    return float(value) if axis.is_numeric else float(list(axis.fields).index(value))


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    step = 1 if len(axis.fields) <= 6 else 5
    return [(_place(axis, value), value) for value in list(axis.fields)[::step]]
