"""Line charts as inline SVG: sharp on any screen, coloured by the page's style, light and dark.

Series differ in colour and marker, so that the colour-blind can tell them apart. Positions are in
the units of the drawing, WIDTH x HEIGHT; the page scales it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

WIDTH, HEIGHT = 360, 216
"""Size of a chart in SVG units; the height holds for tick labels of one line."""
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 22, 32
"""Margins; the bottom holds a line of tick labels and the name of the axis."""
LINE = 10
"""Height of a further line of tick labels."""
COLORS = 7
"""Classes c0 ... c6 of the style sheet, in the order of unite.metrics.plots.COLORS."""
TICKS = 5
MARGIN = 0.06
"""Free space beside the data, as a share of its range."""
MOST_MARKERS = 24
"""Largest number of points of a line with markers."""
LABEL_LINES = 3
MARKERS = ("circle", "square", "up", "diamond", "down", "plus", "cross")
SHAPES = {
    "square": "M{w},{n}H{e}V{s}H{w}Z",
    "up": "M{x},{n}L{e},{s}H{w}Z",
    "down": "M{x},{s}L{e},{n}H{w}Z",
    "diamond": "M{x},{n}L{e},{y}L{x},{s}L{w},{y}Z",
    "plus": "M{x},{n}V{s}M{w},{y}H{e}",
    "cross": "M{w},{n}L{e},{s}M{w},{s}L{e},{n}",
}
RADIUS = 3.2


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of a chart."""

    label: str
    points: Sequence[tuple[float, float]]
    index: int = 0
    """Index of colour and marker."""
    errors: Sequence[float] = ()
    """Half lengths of error bars, by point."""
    band: Sequence[tuple[float, float]] = ()
    """Least and greatest value, by point."""
    joined: bool = True
    dashed: bool = False
    """True for a line of the paper's figures."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_y: bool = False
    x_ticks: Sequence[tuple[float, str]] = ()
    """Places and names; empty = round numbers."""
    note: str = ""
    """Text below the chart."""
    run: int | None = None
    """Index of the run that the chart is about; None for several."""

    @property
    def svg(self) -> Markup:
        """The drawing."""
        return draw(self)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels with one legend."""

    panels: Sequence[Panel]
    legend: Sequence[tuple[int, str]] = ()
    """Entries (index of colour and marker, label)."""
    caption: str = ""
    warning: str = ""
    """Reason why it stands apart from another figure."""
    pictures: Sequence[object] = field(default_factory=tuple)


@dataclass(frozen=True, kw_only=True)
class _Scale:
    """Map from data to the drawing, along one axis."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        share = (at - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)


def draw(panel: Panel) -> Markup:
    """A chart as SVG; its title and series are read out by screen readers."""
    series = [_drawable(each, panel.log_y) for each in panel.series]
    xs = [x for each in series for x, _ in each.points] + [x for x, _ in panel.x_ticks]
    ys = [y for each in series for y in _extent(each)]
    if not xs or not ys:
        return Markup("<p class=empty>nothing to draw</p>")
    x_scale = _scale(xs, LEFT, WIDTH - RIGHT, log=False)
    y_scale = _scale(ys, HEIGHT - BOTTOM, TOP, log=panel.log_y)
    parts = [
        *_grid(panel, x_scale, y_scale),
        *(part for each in series for part in _line(each, x_scale, y_scale)),
    ]
    words = f"{panel.title}: {panel.y_label} over {panel.x_label}; " + "; ".join(
        each.label for each in series if each.label
    )
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(WIDTH, _height(panel), words, Markup("").join(parts))


def marker(index: int) -> Markup:
    """Line and marker of a series, for legends."""
    return Markup(
        '<svg class="key" viewBox="0 0 26 12" aria-hidden="true"><path class="line c{}" '
        'd="M1,6H25"/>{}</svg>'
    ).format(index % COLORS, _mark(13, 6, index))


def ticks(low: float, high: float) -> list[float]:
    """About TICKS round numbers from low to high."""
    if high <= low:
        return [low]
    rough = (high - low) / TICKS
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from low to high, with 2 and 5 between them where they are few."""
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 3 else (1, 2, 5)
    values = [factor * 10.0**exponent for exponent in exponents for factor in factors]
    return [value for value in values if low <= value <= high * (1 + 1e-9)]


def compact(value: float) -> str:
    """A number short enough for an axis: 38k, 1.2M, 0.05."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * (1 if sign != "k" else 10):
            return f"{value / size:.3g}{sign}"
    return f"{value:.4g}"


def _drawable(series: Series, log: bool) -> Series:
    """The series without values that are not finite, or not positive on a log axis."""
    keep = [i for i, (_, y) in enumerate(series.points) if math.isfinite(y) and (y > 0 or not log)]
    return Series(
        label=series.label,
        points=[series.points[i] for i in keep],
        index=series.index,
        errors=[series.errors[i] for i in keep] if series.errors else (),
        band=[series.band[i] for i in keep] if series.band else (),
        joined=series.joined,
        dashed=series.dashed,
    )


def _extent(series: Series) -> list[float]:
    values = [y for _, y in series.points]
    values += [y for pair in series.band for y in pair]
    for (_, y), error in zip(series.points, series.errors, strict=False):
        values += [y - error, y + error]
    return values


def _scale(values: Sequence[float], start: float, end: float, *, log: bool) -> _Scale:
    low, high = min(values), max(values)
    if log:
        free = (high / low) ** MARGIN if high > low else 2.0
        return _Scale(low=low / free, high=high * free, start=start, end=end, log=True)
    free = MARGIN * (high - low) or abs(high) * MARGIN or 1.0
    return _Scale(low=low - free, high=high + free, start=start, end=end)


def _grid(panel: Panel, x_scale: _Scale, y_scale: _Scale) -> list[Markup]:
    find = log_ticks if y_scale.log else ticks
    parts = []
    for value in find(y_scale.low, y_scale.high):
        y = y_scale(value)
        parts.append(
            Markup(
                '<path class="grid" d="M{},{}H{}"/><text class="tick end" x="{}" y="{}">{}</text>'
            ).format(LEFT, y, WIDTH - RIGHT, LEFT - 6, y + 3.5, compact(value))
        )
    named = panel.x_ticks or [(x, compact(x)) for x in ticks(x_scale.low, x_scale.high)]
    for value, name in named:
        parts.append(_x_tick(x_scale(value), name))
    parts.append(
        Markup('<path class="axis" d="M{},{}H{}"/>').format(LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT)
    )
    parts.append(Markup('<text class="name" x="4" y="12">{}</text>').format(panel.y_label))
    parts.append(
        Markup('<text class="name end" x="{}" y="{}">{}</text>').format(
            WIDTH - RIGHT, _height(panel) - 4, panel.x_label
        )
    )
    return parts


def _height(panel: Panel) -> float:
    """Height of the whole drawing: labels of several lines make it higher."""
    return HEIGHT + LINE * (max((len(_lines(name)) for _, name in panel.x_ticks), default=1) - 1)


def _lines(name: str) -> list[str]:
    """A tick's label, broken at its commas."""
    return name.split(", ")[:LABEL_LINES] if len(name) > 8 else [name]


def _x_tick(x: float, name: str) -> Markup:
    spans = Markup("").join(
        Markup('<tspan x="{}" dy="{}">{}</tspan>').format(x, LINE if row else 0, line)
        for row, line in enumerate(_lines(name))
    )
    return Markup('<text class="tick mid" y="{}">{}</text>').format(HEIGHT - BOTTOM + 14, spans)


def _line(series: Series, x_scale: _Scale, y_scale: _Scale) -> list[Markup]:
    """Band, line, error bars and markers, each marker with its values as a tooltip."""
    color, parts = series.index % COLORS, []
    places = [(x_scale(x), y_scale(y)) for x, y in series.points]
    if series.band:
        xs = [x for x, _ in places]
        below, above = ([y_scale(pair[side]) for pair in series.band] for side in (0, 1))
        outline = [*zip(xs, above, strict=True), *reversed(list(zip(xs, below, strict=True)))]
        parts.append(Markup('<path class="band c{}" d="{}Z"/>').format(color, _path(outline)))
    if series.joined and len(places) > 1:
        dash = " dashed" if series.dashed else ""
        parts.append(Markup('<path class="line c{}{}" d="{}"/>').format(color, dash, _path(places)))
    for (x, _), (_, y), error in zip(places, series.points, series.errors, strict=False):
        if error:
            low, high = y_scale(y - error), y_scale(y + error)
            parts.append(
                Markup('<path class="line c{}" d="M{x},{}V{}M{},{low}h6M{},{high}h6"/>').format(
                    color, low, high, x - 3, x - 3, x=x, low=low, high=high
                )
            )
    if len(places) <= MOST_MARKERS:
        for (x, y), (data_x, data_y) in zip(places, series.points, strict=True):
            label = f"{series.label}: {compact(data_x)}, {data_y:.4g}"
            mark = _mark(x, y, series.index, hollow=series.dashed)
            parts.append(Markup("<g>{}<title>{}</title></g>").format(mark, escape(label)))
    return parts


def _path(places: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:g},{y:g}" for x, y in places)


def _mark(x: float, y: float, index: int, *, hollow: bool = False) -> Markup:
    kind = f"mark c{index % COLORS}{' hollow' if hollow else ''}"
    shape = MARKERS[index % len(MARKERS)]
    if shape == "circle":
        return Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(kind, x, y, RADIUS)
    sides = {"n": y - RADIUS, "s": y + RADIUS, "w": x - RADIUS, "e": x + RADIUS}
    path = SHAPES[shape].format(x=f"{x:g}", y=f"{y:g}", **{k: f"{v:g}" for k, v in sides.items()})
    return Markup('<path class="{}" d="{}"/>').format(kind, path)
