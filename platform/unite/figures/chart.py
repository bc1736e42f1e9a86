"""Content of a plot, without a place on paper: series in panels, bars, panels in a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

MOST_POINTS = 160
"""Largest number of points of a curve; longer ones are averaged in stretches."""
TIME = "t (0 = noise, 1 = clean)"
"""Name of an axis of noise levels."""
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, kw_only=True)
class Series:
    """A line of a chart."""

    label: str
    points: Points
    index: int = 0
    """Index of colour and marker."""
    errors: Sequence[float] = ()
    """Half lengths of error bars, by point."""
    band: Points = ()
    """Least and greatest value, by point."""
    links: Sequence[str] = ()
    """Web addresses, by point; only files have them."""
    joined: bool = True
    marked: bool = True
    """False for a line without markers, such as a limit."""
    dashed: bool = False
    """True for a line of the paper's figures, with hollow markers."""
    faint: bool = False
    """True for small, pale markers, such as single seeds beside their mean."""


@dataclass(frozen=True, kw_only=True)
class Panel:
    """A chart of lines."""

    title: str
    x_label: str
    y_label: str
    series: Sequence[Series]
    log_y: bool = False
    x_ticks: Sequence[tuple[float, str]] = ()
    """Places and names; empty = round numbers."""
    holds_y: Sequence[float] = ()
    """Values that the vertical axis reaches at least."""
    note: str = ""
    """Text below the chart."""
    run: int | None = None
    """Index of the run that the chart is about; None for several."""


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A bar of parts that add up."""

    label: str
    parts: Mapping[str, float]
    """Part -> value."""
    source: Any = None
    """Origin of the total; the page links it."""

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A chart of bars on one scale."""

    title: str
    unit: str
    bars: Sequence[Bar]
    looks: Mapping[str, tuple[str, str]]
    """Part -> (look of `unite.figures.looks`, name), in the order of drawing."""
    note: str = ""
    run: int | None = None

    @property
    def longest(self) -> float:
        """Total of the longest bar; 1 when all are 0."""
        return max((bar.total for bar in self.bars), default=0.0) or 1.0


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Panels with one legend."""

    panels: Sequence[Panel | Bars]
    legend: Sequence[tuple[int | str, str]] = ()
    """Entries (index of colour and marker, or look of a part; label)."""
    title: str = ""
    """Title of the file; the page has its own headings."""
    caption: str = ""
    warning: str = ""
    """Reason why it stands apart from another figure."""
    pictures: Sequence[Any] = field(default_factory=tuple)


def thin(points: Points) -> list[tuple[float, float]]:
    """Points of a curve, MOST_POINTS at most; means of stretches where there are more."""
    size = -(-len(points) // MOST_POINTS) or 1
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part))
        for part in stretches
    ]
