"""A list of labels: a text file of lines that name a file and its class.

Lines are cells apart by comma, tab, semicolon or space, with quotes where a cell holds the
separator. Which separator and which column names the files is not guessed from looks: it is the
one by which most lines name a file of the source. The class is the column of that name when the
first line has one (`CLASS_HEADS`), else the next column. What else a line holds is ignored.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from unite.data.manifest import ShardError
from unite.data.names import shown
from unite.storage import Store

SEPARATORS = (",", "\t", ";", " ")
"""Separators, in order of preference where two fit equally well."""
CLASS_HEADS = frozenset(
    ("class", "classname", "label", "labelname", "category", "target", "predictionstring")
)
"""Heads of a class column, letters only, in lower case."""
KAGGLE_BOXES = "predictionstring"
"""Head of ImageNet's LOC_val_solution.csv, whose cells hold the class and then boxes."""


class Row(NamedTuple):
    """A line of the list and its cells."""

    line: int
    cells: list[str]


class Files:
    """The files of a source, by the names that a list may give them."""

    def __init__(self, paths: Collection[str], suffixes: tuple[str, ...]) -> None:
        self.suffixes = suffixes
        self.example = next(iter(paths), "")
        self.by_stem: dict[str, list[str]] = {}
        for path in paths:
            self.by_stem.setdefault(self._stem(path), []).append(path)

    def named(self, cell: str) -> list[str]:
        """The paths that a cell means: a path, its end, or a longer one; the ending may lack."""
        cell = cell.strip().removeprefix("./")
        found = [path for path in self.by_stem.get(self._stem(cell), ()) if _agree(path, cell)]
        alike = [path for path in found if path.endswith(cell) or cell.endswith(path)]
        return [path for path in alike if path == cell] or alike or found

    def ends(self, cell: str) -> bool:
        """True if a cell has the ending of a file."""
        return cell.strip().lower().endswith(self.suffixes)

    def _stem(self, path: str) -> str:
        name = path.rpartition("/")[2]
        suffix = next((s for s in self.suffixes if name.lower().endswith(s)), "")
        return name[: len(name) - len(suffix)]


def _agree(path: str, cell: str) -> bool:
    """True if the folders of both, from the last one, agree as far as both go."""
    folders = zip(path.split("/")[-2::-1], cell.split("/")[-2::-1], strict=False)
    return all(left == right for left, right in folders)


def read_labels(
    uri: str, paths: Collection[str], suffixes: tuple[str, ...], source: str
) -> dict[str, str]:
    """Path -> class of all `paths`, the files of `source`, sorted by path.

    ShardError, naming the line where there is one, for a list that is not text, for a line without
    a class or with one name for two files, for a file of two classes, and for a file that no line
    names.
    """
    files = Files(paths, suffixes)
    rows, column = _rows(uri, _text(uri), files)
    class_column = _class_column(uri, rows, column, files)
    _refuse_one_hot(uri, rows, column, files)
    boxes = _head(rows[0], class_column) == KAGGLE_BOXES
    found: dict[str, tuple[str, int]] = {}
    for row in rows:
        path = _one_file(uri, row, column, files)
        name = _class(uri, row, class_column) if path or len(row.cells) < 2 else ""
        if path is None:
            continue  # a head, or a file of another source
        name = name.split()[0] if boxes else name
        other, line = found.setdefault(path, (name, row.line))
        if other != name:
            raise ShardError(
                f"--labels {uri}, lines {line} and {row.line}: {path} is {other!r} and {name!r}"
            )
    missing = [path for path in paths if path not in found]
    if missing:
        raise ShardError(
            f"--labels {uri} has no line for {len(missing)} of {len(paths)} images of {source}, "
            f"such as {missing[0]}; lines are: image, class"
        )
    return {path: found[path][0] for path in sorted(found)}


def _text(uri: str) -> str:
    """The text of the file: UTF-8, or UTF-16 that says so by its first bytes."""
    store = Store.open(uri)
    if not store.is_file():
        raise ShardError(f"--labels {uri} is no file")
    data = store.read("")
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ShardError(
            f"--labels {uri}, line {line} is not {'UTF-16' if wide else 'UTF-8'} ({error.reason}), "
            "so names could be misread; save the file as UTF-8"
        ) from error
    if "\0" in text:
        raise ShardError(
            f"--labels {uri} holds zero bytes, as UTF-16 without its mark or a binary file does; "
            "save it as UTF-8 text"
        )
    return text


def _rows(uri: str, text: str, files: Files) -> tuple[list[Row], int]:
    """The rows as the separator gives them that names most files, and the column of the names."""
    best, rows, column, most, broken = (0, 0), [], 0, 0, ""
    for separator in SEPARATORS:
        try:
            parsed = list(_parse(text, separator))
        except csv.Error as error:
            broken = broken or str(error)
            continue
        width = max((len(row.cells) for row in parsed if len(row.cells) > 1), default=0)
        for number in range(min(width, 2) if separator == " " else width):
            cells = [row.cells[number] for row in parsed if len(row.cells) > max(number, 1)]
            names = [cell for cell in cells if files.named(cell)]
            if (found := (len(names), sum(map(files.ends, names)))) > best:
                best, rows, column = found, parsed, number
                most = 2 if separator == " " else width
        if best[0] and best[0] >= len(rows) - 1:
            break
    if not rows:
        raise ShardError(
            f"--labels {uri}, {broken or _why_none(text, files)}; lines are: image, class"
        )
    _require_even(uri, rows, most)
    return rows, column


def _require_even(uri: str, rows: list[Row], most: int) -> None:
    """ShardError for a row with more cells than others or than `most`: a class that fell apart."""
    few = min(len(row.cells) for row in rows if len(row.cells) > 1)
    for row in rows:
        if len(row.cells) > min(few, most):
            raise ShardError(
                f"--labels {uri}, line {row.line} has {len(row.cells)} cells instead of "
                f"{min(few, most)}: {' | '.join(row.cells)}. Put what holds a separator into "
                "quotes, or set image and class apart by a tab"
            )


def _why_none(text: str, files: Files) -> str:
    """Reason why no line names a file and its class, from the first one that is not blank."""
    lines = enumerate(text.splitlines(), start=1)
    number, line = next(((n, line) for n, line in lines if line.strip()), (1, ""))
    if files.named(line):
        return f"line {number}: no class in {line!r}"
    return f"line {number} and all others name no image, such as {files.example!r}: {line[:60]!r}"


def _parse(text: str, separator: str) -> Iterator[Row]:
    """Rows that are not blank; csv.Error, naming the line, for quotes that do not close."""
    spaces = separator == " "
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=spaces, strict=True
    )
    try:
        for cells in reader:
            cells = [cell for cell in cells if cell] if spaces else cells
            if any(cell.strip() for cell in cells):
                yield Row(reader.line_num, cells)
    except csv.Error as error:
        raise csv.Error(f"line {reader.line_num}: {error}") from error


def _head(row: Row, column: int) -> str:
    """A cell as the head of a column: its letters, in lower case."""
    cell = row.cells[column] if column < len(row.cells) else ""
    return re.sub(r"[^a-z]", "", cell.lower())


def _class_column(uri: str, rows: list[Row], column: int, files: Files) -> int:
    """The column with the head of a class; without one the next column, or the one before."""
    first = rows[0]
    heads = [number for number in range(len(first.cells)) if _head(first, number) in CLASS_HEADS]
    is_header = column < len(first.cells) and not files.named(first.cells[column])
    if is_header and len(heads) > 1:
        names = " and ".join(repr(first.cells[number]) for number in heads)
        raise ShardError(
            f"--labels {uri}, line {first.line}: {names} may both be the class; keep one"
        )
    if is_header and heads:
        return heads[0]
    width = max(len(row.cells) for row in rows)
    return column + 1 if column + 1 < width else column - 1


def _refuse_one_hot(uri: str, rows: list[Row], column: int, files: Files) -> None:
    """ShardError for a list with a column for each class: 1 in that of the class, 0 in others."""
    first, *others = rows
    heads = {_head(first, number) for number in range(len(first.cells))}
    if not others or heads & CLASS_HEADS or len(first.cells) < 3 or column >= len(first.cells):
        return
    if files.named(first.cells[column]):
        return
    for row in others:
        cells = [cell.strip() for cell in (*row.cells[:column], *row.cells[column + 1 :])]
        if not set(cells) <= {"0", "1", "0.0", "1.0"} or sum(map(float, cells)) != 1:
            return
    names = [name for number, name in enumerate(first.cells) if number != column]
    raise ShardError(
        f"--labels {uri}, line {first.line}: {shown(names)} are columns of 0 and 1, one for each "
        "class; write one column `class` that holds its name"
    )


def _class(uri: str, row: Row, column: int) -> str:
    name = row.cells[column].strip() if column < len(row.cells) else ""
    if not name:
        raise ShardError(f"--labels {uri}, line {row.line}: no class in {','.join(row.cells)!r}")
    return name


def _one_file(uri: str, row: Row, column: int, files: Files) -> str | None:
    """The file that a row names, if it is one of the source."""
    paths = files.named(row.cells[column]) if column < len(row.cells) else []
    if len(paths) > 1:
        raise ShardError(
            f"--labels {uri}, line {row.line}: {row.cells[column]} may be {paths[0]} or "
            f"{paths[1]}; give their paths"
        )
    return paths[0] if paths else None
