"""Structures as text: records of SDF (V2000) and frames of XYZ, cut out and not yet parsed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import IO

import numpy as np

from unite.data.ingest.atoms.rows import LARGEST_ROW, PARSE, TOO_LARGE, Faults
from unite.domains.atoms.elements import SYMBOLS

MOST_ATOMS = 10_000
"""Atoms beyond which nothing reads a structure."""
NUMBER_OF = {symbol: number for number, symbol in enumerate(SYMBOLS) if number}
"""Atomic number of each symbol."""
_SAID = re.compile(r"""(\w+)\s*=\s*(?:"([^"]*)"|'([^']*)'|(\S+))""")


def element_numbers(symbols: Iterable[str]) -> np.ndarray:
    """Atomic numbers, int64; ValueError for what is no element of the table (X, D, T, ...)."""
    try:
        return np.array([NUMBER_OF[symbol] for symbol in symbols], np.int64)
    except KeyError as error:
        raise ValueError(f"unknown_element: {error.args[0]!r} is no element up to Es") from None


def xyz_frames(text: str, faults: Faults) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, cells) of each frame: a count, a comment, then lines `symbol x y z ...`.

    QM9's own files have a charge behind the coordinates, `*^` in exponents, and below the atoms a
    line of frequencies, the SMILES and the InChI. The comment of extended XYZ says which columns
    are the symbol and the coordinates, and the cell of a frame that is periodic. A line that is no
    frame ends the reading: what is behind it cannot be told apart, and is counted by its lines that
    hold one whole number.
    """
    lines = re.split(r"\r\n|\n|\r", text)  # splitlines() also cuts comments at a form feed
    lines = lines[:-1] if not lines[-1] else lines
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        size = _whole(lines[at])
        end = at + 2 + size
        if size > MOST_ATOMS:
            faults.add(TOO_LARGE)
            at = end
            continue
        if size < 0 or end > len(lines):
            faults.add(PARSE, max(1, sum(_whole(line) >= 0 for line in lines[at:])))
            return
        words = lines[at + 1].split("\t")[0].split()
        cells = _cells(lines[at + 2 : end], lines[at + 1], faults)
        at = end
        if words[:1] == ["gdb"] and len(lines) >= at + 3 and _whole(lines[at]) < 0:
            if cells is not None:
                cells["smiles"] = (lines[at + 1].split() or [""])[0]
            at += 3
        if cells is not None:
            yield " ".join(words[:2]) if words[:1] == ["gdb"] else " ".join(words[:1]), cells


def _whole(line: str) -> int:
    """The whole number that is all of a line; -1 for another line."""
    word = line.strip()
    return int(word) if word.isdecimal() and len(word) < 10 else -1


def _cells(atoms: list[str], comment: str, faults: Faults) -> dict[str, str] | None:
    """Elements and coordinates of lines; None, and counted, when they have too few words or the
    comment names no columns of both."""
    said = {one.lower(): a or b or c for one, a, b, c in _SAID.findall(comment)}
    rows = [line.replace("*^", "e").split() for line in atoms]
    try:
        symbol, first = _columns(said["properties"]) if "properties" in said else (0, 1)
        elements = [row[symbol] for row in rows]
        coordinates = [
            word for row in rows for word in (row[first], row[first + 1], row[first + 2])
        ]
    except (IndexError, KeyError, ValueError):
        faults.add(PARSE)
        return None
    cells = {"elements": ",".join(elements), "coordinates": ",".join(coordinates)}
    return cells | ({"cell": said["lattice"]} if _is_periodic(said) else {})


def _columns(properties: str) -> tuple[int, int]:
    """Columns of the symbol and of x in extended XYZ, such as species:S:1:forces:R:3:pos:R:3.

    KeyError or ValueError for words that name none.
    """
    words = properties.split(":")
    starts, at = {}, 0
    for name, width in zip(words[::3], words[2::3], strict=True):
        starts[name.lower()] = at
        at += int(width)
    return starts["species"], starts["pos"]


def _is_periodic(said: dict[str, str]) -> bool:
    """True for a frame in a cell, which is periodic unless its `pbc` says F of all three."""
    pbc = said.get("pbc", "T").lower().split()
    return "lattice" in said and any(word[:1] in ("t", "1") for word in pbc)


def sdf_records(file: IO[bytes], faults: Faults) -> Iterator[tuple[str, dict[str, str]]]:
    """(name, cells) of each record of an SDF; records that are longer or of V3000 are counted.

    A record whose head says 2D and that has no height is a drawing: its cell `drawn` says so.
    """
    for record in _records(file, faults):
        counts = record[3] if len(record) > 3 else ""
        size = _whole(counts[:3])
        atoms = record[4 : 4 + size] if size >= 0 else []
        if "V3000" in counts or size < 0 or len(atoms) != size:
            faults.add(PARSE)
            continue
        places = [[line[at : at + 10].strip() for at in (0, 10, 20)] for line in atoms]
        is_drawn = record[1][20:22] == "2D" and all(not z.strip("-0.") for *_, z in places)
        yield (
            record[0],
            {
                "elements": ",".join(line[31:34].strip() for line in atoms),
                "coordinates": ",".join(word for place in places for word in place),
                **({"drawn": "2D"} if is_drawn else {}),
            },
        )


def _records(file: IO[bytes], faults: Faults) -> Iterator[list[str]]:
    """Lines of each record; of one above LARGEST_ROW nothing is kept."""
    lines: list[str] = []
    length = 0
    for raw in file:
        line = raw.decode(errors="replace").rstrip("\r\n").removeprefix("\ufeff")
        if line.startswith("$$$$"):
            if length > LARGEST_ROW:
                faults.add(TOO_LARGE)
            else:
                yield lines
            lines, length = [], 0
            continue
        length += len(line)
        if length <= LARGEST_ROW:
            lines.append(line)
    if any(line.strip() for line in lines):
        faults.add(PARSE)  # cut short: the last record has no end
