"""Places of a panel's marks: grid, axes, lines, error bars, bands, markers, bars."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from unite.figures.axes import Scale, compact, names
from unite.figures.chart import Bar, Bars, Panel, Series
from unite.figures.looks import COLORS
from unite.figures.marks import (
    FAINT_RADIUS,
    RADIUS,
    Drawing,
    Mark,
    Place,
    Stroke,
    Words,
    box,
    marker,
)

WIDTH, HEIGHT = 360, 216
"""Size of a chart; the height holds for tick labels of one line."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 22, 32
"""Margins; the bottom holds a line of tick labels and the name of the axis."""
LINE = 10
"""Height of a further line of tick labels."""
MOST_MARKERS = 24
"""Largest number of points of a line with markers."""
LABEL_LINES = 3
TOOLTIP_DIGITS = 6
"""Digits of the images seen, or whatever lies along the axis, in a marker's tooltip."""
BAR_LABEL, BAR_TOTAL, BAR_HEIGHT, BAR_STEP = 118, 52, 14, 32
"""Width of a bar's label and of its total, its height, and the distance to the next."""
BAR_LETTERS = 19
"""Letters in a line of a bar's label."""


def draw(panel: Panel | Bars) -> Drawing:
    """Drawing of a panel; without marks where there is nothing to draw."""
    return _bars(panel) if isinstance(panel, Bars) else _lines(panel)


def _lines(panel: Panel) -> Drawing:
    series = [_drawable(each, panel.log_y) for each in panel.series]
    xs = [x for each in series for x, _ in each.points]
    ys = [y for each in series for y in _extent(each)]
    names = "; ".join(each.label for each in series if each.label)
    words = f"{panel.title}: {panel.y_label} over {panel.x_label}; {names}"
    height = HEIGHT + LINE * (max((len(_broken(n)) for _, n in panel.x_ticks), default=1) - 1)
    if not xs or not ys:
        return Drawing(width=WIDTH, height=height, marks=(), words=words)
    xs += [x for x, _ in panel.x_ticks]
    x_scale = Scale.over(xs, LEFT, WIDTH - RIGHT, log=False)
    y_scale = Scale.over([*ys, *panel.holds_y], HEIGHT - BOTTOM, TOP, log=panel.log_y)
    marks = list(_frame(panel, x_scale, y_scale, height))
    for each in series:
        marks += _series(each, x_scale, y_scale)
    return Drawing(width=WIDTH, height=height, marks=marks, words=words)


def _drawable(series: Series, log: bool) -> Series:
    """The series without values that are not finite, or not positive on a log axis."""
    keep = [i for i, (_, y) in enumerate(series.points) if math.isfinite(y) and (y > 0 or not log)]
    kept = {
        name: [getattr(series, name)[i] for i in keep] if getattr(series, name) else ()
        for name in ("points", "errors", "band", "links")
    }
    return replace(series, **kept)


def _extent(series: Series) -> list[float]:
    values = [y for _, y in series.points]
    values += [y for pair in series.band for y in pair]
    for (_, y), error in zip(series.points, series.errors, strict=False):
        values += [y - error, y + error]
    return values


def _frame(panel: Panel, x_scale: Scale, y_scale: Scale, height: float) -> Iterator[Mark]:
    """Grid lines with their numbers, the horizontal axis, and the names of both."""
    right, foot = WIDTH - RIGHT, HEIGHT - BOTTOM
    for value, name in _named(y_scale.ticks()):
        y = y_scale(value)
        yield Stroke(look="grid", pieces=[[(LEFT, y), (right, y)]])
        yield Words(look="tick end", place=(LEFT - 6, y + 3.5), text=name)
    for value, name in panel.x_ticks or _named(x_scale.ticks()):
        for row, line in enumerate(_broken(name)):
            place = (x_scale(value), foot + 14 + LINE * row)
            yield Words(look="tick mid", place=place, text=line)
    yield Stroke(look="axis", pieces=[[(LEFT, foot), (right, foot)]])
    yield Words(look="name", place=(4, 12), text=panel.y_label)
    yield Words(look="name end", place=(right, height - 4), text=panel.x_label)


def _named(ticks: Sequence[float]) -> list[tuple[float, str]]:
    return list(zip(ticks, names(ticks), strict=True))


def _broken(name: str) -> list[str]:
    """A tick's label, broken at its commas."""
    return name.split(", ")[:LABEL_LINES] if len(name) > 8 else [name]


def _series(series: Series, x_scale: Scale, y_scale: Scale) -> Iterator[Mark]:
    """Band, line, error bars and markers, each marker with its values as a tooltip."""
    color = f"c{series.index % COLORS}"
    places = [(x_scale(x), y_scale(y)) for x, y in series.points]
    if series.band:
        below, above = (
            [(x, y_scale(pair[side])) for (x, _), pair in zip(places, series.band, strict=True)]
            for side in (0, 1)
        )
        yield Stroke(look=f"band {color}", pieces=[[*above, *reversed(below)]], closed=True)
    if series.joined and len(places) > 1:
        dashed = " dashed" if series.dashed else ""
        yield Stroke(look=f"line {color}{dashed}", pieces=[places])
    for (x, _), (_, y), error in zip(places, series.points, series.errors, strict=False):
        if error:
            low, high = y_scale(y - error), y_scale(y + error)
            caps = [[(x - 3, at), (x + 3, at)] for at in (low, high)]
            yield Stroke(look=f"line {color}", pieces=[[(x, low), (x, high)], *caps])
    if series.marked and len(places) <= MOST_MARKERS:
        yield from _markers(series, places, color)


def _markers(series: Series, places: Sequence[Place], color: str) -> Iterator[Mark]:
    words = " hollow" if series.dashed else " faint" if series.faint else ""
    radius = FAINT_RADIUS if series.faint else RADIUS
    links = series.links or [""] * len(places)
    for place, (x, y), link in zip(places, series.points, links, strict=True):
        title = f"{series.label}: {compact(x, TOOLTIP_DIGITS)}, {y:.4g}"
        mark = marker(f"mark {color}{words}", place, series.index, radius=radius)
        yield replace(mark, title=title, link=link)


def _bars(panel: Bars) -> Drawing:
    """Bars below each other, each with its label and total; parts have their values as tooltips."""
    marks: list[Mark] = []
    track = WIDTH - BAR_LABEL - BAR_TOTAL - 16
    height = 8.0
    for bar in panel.bars:
        lines = textwrap.wrap(bar.label, BAR_LETTERS)[:LABEL_LINES]
        middle = height + max(BAR_STEP, 12 * len(lines) + 8) / 2
        for row, line in enumerate(lines):
            y = middle + 4 + 12 * (row - (len(lines) - 1) / 2)
            marks.append(Words(look="tick", place=(0, y), text=line))
        marks += _parts(panel, bar, middle, track)
        total = f"{bar.total:.4g} {panel.unit}"
        marks.append(Words(look="tick end", place=(WIDTH, middle + 4), text=total))
        height = 2 * middle - height
    words = f"{panel.title}: " + "; ".join(f"{bar.label} {bar.total:.4g}" for bar in panel.bars)
    return Drawing(width=WIDTH, height=round(height + 4, 1), marks=marks, words=words)


def _parts(panel: Bars, bar: Bar, middle: float, track: float) -> Iterator[Mark]:
    left, top = float(BAR_LABEL), middle - BAR_HEIGHT / 2
    for part, (look, name) in panel.looks.items():
        if not (value := bar.parts.get(part, 0.0)):
            continue
        right = round(left + track * value / panel.longest, 1)
        yield Stroke(
            look=f"part {look}",
            pieces=[box(left, top, right, top + BAR_HEIGHT)],
            closed=True,
            title=f"{name}: {value:.4g} {panel.unit}",
        )
        left = right
