"""Marks of a drawing: strokes, discs and words, in the units of the drawing, y downwards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from unite.figures.looks import COLORS

Place = tuple[float, float]
MARKERS = ("circle", "square", "up", "diamond", "down", "plus", "cross")
RADIUS, FAINT_RADIUS = 3.2, 1.8


@dataclass(frozen=True, kw_only=True)
class Stroke:
    """Straight lines from place to place, in one or several pieces."""

    look: str
    pieces: Sequence[Sequence[Place]]
    closed: bool = False
    """True for areas."""
    title: str = ""
    """Tooltip."""
    link: str = ""
    """Web address."""


@dataclass(frozen=True, kw_only=True)
class Disc:
    """A filled circle."""

    look: str
    center: Place
    radius: float = RADIUS
    title: str = ""
    link: str = ""


@dataclass(frozen=True, kw_only=True)
class Words:
    """A line of text whose baseline begins, ends or is centred at a place."""

    look: str
    place: Place
    text: str


Mark = Stroke | Disc | Words


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """Marks on paper, and a sentence for screen readers."""

    width: float
    height: float
    marks: Sequence[Mark]
    words: str = ""


def marker(look: str, center: Place, index: int, *, radius: float = RADIUS) -> Stroke | Disc:
    """Marker number `index` at a place."""
    (x, y), shape = center, MARKERS[index % len(MARKERS)]
    if shape == "circle":
        return Disc(look=look, center=center, radius=radius)
    n, s, w, e = y - radius, y + radius, x - radius, x + radius
    if shape in ("plus", "cross"):
        upright = [[(x, n), (x, s)], [(w, y), (e, y)]]
        pieces = upright if shape == "plus" else [[(w, n), (e, s)], [(w, s), (e, n)]]
        return Stroke(look=look, pieces=pieces)
    outlines = {
        "square": [(w, n), (e, n), (e, s), (w, s)],
        "up": [(x, n), (e, s), (w, s)],
        "down": [(x, s), (w, n), (e, n)],
        "diamond": [(x, n), (e, y), (x, s), (w, y)],
    }
    return Stroke(look=look, pieces=[outlines[shape]], closed=True)


def key(index: int | str) -> list[Stroke | Disc]:
    """Entry of a legend, 26 x 12: line and marker of series `index`, or a part's look."""
    if isinstance(index, str):
        return [Stroke(look=f"part {index}", pieces=[box(7, 1, 19, 11)], closed=True)]
    color = f"c{index % COLORS}"
    line = Stroke(look=f"line {color}", pieces=[[(1, 6), (25, 6)]])
    return [line, marker(f"mark {color}", (13, 6), index)]


def box(left: float, top: float, right: float, bottom: float) -> list[Place]:
    """Corners of a rectangle."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def moved(marks: Iterable[Mark], right: float, down: float) -> list[Mark]:
    """Marks at another place."""

    def shift(place: Place) -> Place:
        return round(place[0] + right, 1), round(place[1] + down, 1)

    found: list[Mark] = []
    for mark in marks:
        if isinstance(mark, Stroke):
            pieces = [[shift(place) for place in piece] for piece in mark.pieces]
            found.append(replace(mark, pieces=pieces))
        elif isinstance(mark, Disc):
            found.append(replace(mark, center=shift(mark.center)))
        else:
            found.append(replace(mark, place=shift(mark.place)))
    return found


def dashes(piece: Sequence[Place], length: float) -> list[list[Place]]:
    """A line from place to place as dashes of `length` with gaps as long."""
    found: list[list[Place]] = []
    walked = 0.0
    for (x0, y0), (x1, y1) in zip(piece, piece[1:], strict=False):
        whole = math.dist((x0, y0), (x1, y1))
        at = 0.0
        while at < whole:
            step = min(length - walked % length or length, whole - at)
            ends = [(x0 + (x1 - x0) * s / whole, y0 + (y1 - y0) * s / whole)
                    for s in (at, at + step)]  # fmt: skip
            if int(walked / length + 1e-9) % 2 == 0:
                found.append(ends)
            at, walked = at + step, walked + step
    return found
