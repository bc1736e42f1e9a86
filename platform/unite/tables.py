"""Tables of plain text: names and numbers are never cut, notes wrap.

The last column gives way to a narrow terminal; a name that is then too long for its column takes a
line of its own.
"""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console

GAP = "  "
LEAST_NOTE = 15
"""Characters of the last column, at least: for it, long names get a line of their own."""
LEAST_NAME = 12
PIPE_WIDTH = 240
"""Width in columns where there is no terminal: wide enough that no row is wrapped."""


def print_table(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], *, right: Sequence[int] | None = None
) -> None:
    """Print rows under headings. A row of one cell heads the rows below it, in bold.

    `right`: places of the columns that are flush right; None = those that hold nothing but numbers.
    """
    rows = list(rows)
    heads = {"  ".join(row) for row in rows if len(row) == 1}
    console = Console(highlight=False, markup=False, emoji=False, soft_wrap=True)
    for number, line in enumerate(table_lines(headings, rows, terminal_width(), right=right)):
        console.print(line, style="bold" if number == 0 or line in heads else None)


def terminal_width() -> int:
    """Columns of the terminal (or of COLUMNS); PIPE_WIDTH where there is none."""
    console = Console()
    return console.width if console.is_terminal or "COLUMNS" in os.environ else PIPE_WIDTH


def table_lines(
    headings: Sequence[str],
    rows: Iterable[Sequence[Any]],
    width: int,
    *,
    right: Sequence[int] | None = None,
) -> list[str]:
    """Lines of a table, as `print_table` prints it in `width` columns."""
    shown = [tuple(headings), *(tuple(map(_cell, row)) for row in rows)]
    full = [row for row in shown if len(row) > 1]
    if right is None:
        columns = list(zip(*full[1:], strict=True))
        right = [place for place, cells in enumerate(columns) if all(map(_is_number, cells))]
    widths = _widths(full, width)
    lines = [list(row) if len(row) == 1 else _lines(row, widths, right) for row in shown]
    return [line for each in lines for line in each]


def markdown_lines(headings: Sequence[str], rows: Iterable[Sequence[Any]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = (headings, ["---"] * len(headings), *rows)
    return [f"| {' | '.join(map(str, cells))} |" for cells in lines]


def _cell(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def _is_number(cell: str) -> bool:
    return cell.replace(",", "").replace(".", "", 1).lstrip("-").isdigit()


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
    pieces = textwrap.wrap(note, max(1, widths[-1]), break_on_hyphens=False) or [""]
    cells = [name, *middle, pieces[0]]
    padded = [
        cell.rjust(width) if place in right else cell.ljust(width)
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    indent = " " * (sum(widths[:-1]) + len(GAP) * (len(widths) - 1))
    lines = [GAP.join(padded), *(indent + piece for piece in pieces[1:])]
    return [*above, *(line.rstrip() for line in lines)]
