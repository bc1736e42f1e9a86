"""Panels beside each other on one sheet, with title, legend and caption: the files of a plot."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from unite.figures import png, svg
from unite.figures.chart import Bars, Figure, Panel
from unite.figures.draw import WIDTH, draw
from unite.figures.marks import Drawing, Mark, Words, key, moved

MOST_COLUMNS = 4
MARGIN, GAP, LINE = 14, 22, 15
LETTER = 5.7
"""Width of a letter, on the average, in text of the smaller size."""
HEAD_LETTER = 6.3


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A plot as two files."""

    png: bytes
    svg: bytes


def picture(figure: Figure) -> Picture:
    """Files of a figure; the same bytes for the same figure."""
    drawing = sheet(figure)
    return Picture(png=png.file(drawing), svg=svg.file(drawing))


def sheet(figure: Figure) -> Drawing:
    """All of a figure as one drawing."""
    columns = _columns(len(figure.panels))
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP
    marks, y = _text(figure.title, "heading", MARGIN, float(MARGIN), width - 2 * MARGIN)
    for start in range(0, len(figure.panels), columns):
        found, y = _row(figure.panels[start : start + columns], y)
        marks += found
    found, y = _legend(figure.legend, y, width)
    marks += found
    words = f"{figure.warning}. {figure.caption}" if figure.warning else figure.caption
    found, y = _text(words, "tick", MARGIN, y, width - 2 * MARGIN)
    titles = "; ".join(panel.title for panel in figure.panels)
    return Drawing(
        width=width, height=round(y + MARGIN, 1), marks=[*marks, *found],
        words=f"{figure.title}: {titles}" if figure.title else titles,
    )  # fmt: skip


def _columns(number: int) -> int:
    """Columns that fill the rows best: of 5 panels 3 and 2."""
    rows = -(-number // MOST_COLUMNS) or 1
    return max(1, -(-number // rows))


def _row(panels: Sequence[Panel | Bars], top: float) -> tuple[list[Mark], float]:
    """Panels with their titles above and notes below, and the bottom of the row."""
    marks: list[Mark] = []
    bottoms = [top]
    for number, panel in enumerate(panels):
        left, drawing = MARGIN + number * (WIDTH + GAP), draw(panel)
        heads, y = _text(panel.title, "heading", left, top, WIDTH)
        empty = [] if drawing.marks else [Words(look="tick", place=(left, y + 40), text="no data")]
        notes, bottom = _text(panel.note, "tick", left, y + drawing.height + 2, WIDTH)
        marks += [*heads, *moved(drawing.marks, left, y), *empty, *notes]
        bottoms.append(bottom)
    return marks, max(bottoms) + LINE / 2


def _text(text: str, look: str, left: float, top: float, width: float) -> tuple[list[Mark], float]:
    """Text in as many lines as it takes, and the bottom of the last."""
    letters = int(width / (HEAD_LETTER if look == "heading" else LETTER))
    lines = [line for part in text.splitlines() for line in textwrap.wrap(part, letters)]
    marks: list[Mark] = [
        Words(look=look, place=(left, round(top + 12 + LINE * row, 1)), text=line)
        for row, line in enumerate(lines)
    ]
    return marks, top + LINE * len(lines) + (3 if lines else 0)


def _legend(
    entries: Sequence[tuple[int | str, str]], top: float, width: float
) -> tuple[list[Mark], float]:
    marks: list[Mark] = []
    x, y = float(MARGIN), top + 6
    for index, label in entries:
        long = 32 + LETTER * len(label) + 14
        if x > MARGIN and x + long > width - MARGIN:
            x, y = float(MARGIN), y + LINE
        marks += moved(key(index), x, y - 6)
        marks.append(Words(look="tick", place=(round(x + 31, 1), round(y + 3.5, 1)), text=label))
        x += long
    return marks, y + LINE if entries else top
