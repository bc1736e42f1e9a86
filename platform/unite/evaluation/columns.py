"""Tables in a terminal of any width: names and numbers are never cut, notes wrap.

A name that is too long for its column takes a line of its own.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from rich.console import Console

GAP = "  "
LEAST_NOTE = 15
"""Characters of the last column, at least: for it, long names get a line of their own."""
LEAST_NAME = 12


def print_columns(
    console: Console,
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    right: Sequence[int] = (),
) -> None:
    """Print rows under headings. A row of one cell heads the rows below it, in bold.

    `right`: numbers of the columns that are flush right.
    """
    full = [row for row in (headings, *rows) if len(row) > 1]
    widths = _widths(full, console.width)
    for row in (headings, *rows):
        style = "bold" if row is headings or len(row) == 1 else None
        for line in list(row) if len(row) == 1 else _lines(row, widths, right):
            console.print(line, style=style, soft_wrap=True, markup=False, highlight=False)


def _widths(rows: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of all columns: those of their content; the last and then the first give way."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = width - len(GAP) * (len(widths) - 1) - sum(widths[1:-1])
    widths[-1] = min(widths[-1], max(LEAST_NOTE, room - widths[0]))
    widths[0] = min(widths[0], max(LEAST_NAME, room - widths[-1]))
    return widths


def _lines(row: Sequence[str], widths: Sequence[int], right: Sequence[int]) -> list[str]:
    """A row: its name, on a line of its own if need be, numbers, and the note's first piece; then
    the note's other pieces under it."""
    name, *middle, note = row
    above, name = ([name], "") if len(name) > widths[0] else ([], name)
    pieces = textwrap.wrap(note, widths[-1], break_on_hyphens=False) or [""]
    cells = [name, *middle, pieces[0]]
    padded = [
        cell.rjust(width) if place in right else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    indent = " " * (sum(widths[:-1]) + len(GAP) * (len(widths) - 1))
    lines = [GAP.join(padded), *(indent + piece for piece in pieces[1:])]
    return [*above, *(line.rstrip() for line in lines)]
