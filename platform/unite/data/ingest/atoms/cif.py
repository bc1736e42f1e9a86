"""CIF texts: a look at their atoms before a parser sees them, then pymatgen's reading of them.

The look is ours because the parser's is lenient: it takes deuterium for hydrogen and a negative
length for its size, makes dummies of unknown symbols, and is handed nothing that is too large.
"""

from __future__ import annotations

import re

import numpy as np

from unite.data.ingest.atoms import installed
from unite.data.ingest.atoms.niggli import cell_vectors
from unite.data.ingest.atoms.rows import LARGEST_ROW, TOO_LARGE
from unite.data.ingest.atoms.text import MOST_ATOMS, element_numbers

MOST_LINES = 2 * MOST_ATOMS
MAGNETIC = "_space_group_magn"
_SYMBOL = re.compile(r"[A-Za-z]+")
_CELL = re.compile(r"^\s*_cell_(?:length|angle)_(\w+)\s+([^\s(]+)", re.MULTILINE | re.IGNORECASE)


def read_cif(text: str) -> dict[str, np.ndarray]:
    """`numbers` (N,), flat `frac`, `lengths` in A and `angles` in degrees of a CIF.

    Atoms come in the parser's order, that of CDVAE's and ADiT's arrays: by electronegativity, equal
    elements as in the text.

    ValueError "reason: details": too_large, unknown_element, bad_cell, nonfinite, disordered,
    parse, or the extra that is missing.
    """
    look(text)
    parser = installed.require("pymatgen.io.cif", "chem", "reading CIF files")
    try:
        structure = parser.CifParser.from_str(text, frac_tolerance=0).parse_structures(
            primitive=False
        )[0]
    except Exception as error:  # it raises whatever a broken text leads it to
        raise ValueError(f"parse: {type(error).__name__}: {error}") from error
    if not structure.is_ordered:
        raise ValueError("disordered: a site is shared or partly empty")
    return {
        "numbers": np.array([site.specie.Z for site in structure], np.int64),
        "frac": np.asarray(structure.frac_coords, np.float64).ravel(),
        "lengths": np.array(structure.lattice.lengths, np.float64),
        "angles": np.array(structure.lattice.angles, np.float64),
    }


def look(text: str) -> None:
    """ValueError for a text that is too large, with an element that the table does not have or a
    cell that is none, or of a magnetic structure: the parser evaluates its transformation, and
    9**9**9**9 never ends."""
    if len(text) > LARGEST_ROW:
        raise ValueError(f"{TOO_LARGE}: a CIF of {len(text):,} characters")
    if text.count("\n") > MOST_LINES:
        raise ValueError(f"{TOO_LARGE}: a CIF of {text.count(chr(10)):,} lines")
    if MAGNETIC in text.casefold():
        raise ValueError("parse: the CIF is of a magnetic structure, which is not read")
    symbols = _atom_symbols(text)
    if not symbols:
        raise ValueError("parse: the CIF has no loop of atoms with _atom_site_ columns")
    if len(symbols) > MOST_ATOMS:
        raise ValueError(f"{TOO_LARGE}: a CIF of {len(symbols):,} atoms")
    element_numbers(symbols)
    _check_cell(text)


def _check_cell(text: str) -> None:
    """ValueError for lengths of any unit that are not above 0, and angles that span no volume."""
    said = {name.lower(): value for name, value in _CELL.findall(text)}
    try:
        a_b_c, corners = (
            np.array([float(said[name]) for name in names])
            for names in (("a", "b", "c"), ("alpha", "beta", "gamma"))
        )
    except (KeyError, ValueError):
        return  # the parser says what it lacks
    if (a_b_c <= 0).any():
        raise ValueError(f"bad_cell: lengths {a_b_c.tolist()} must be above 0")
    cell_vectors(np.where(np.isfinite(a_b_c), 10.0, a_b_c), corners)


def _atom_symbols(text: str) -> list[str]:
    """Symbols of the loop of atoms, without charges and numbers."""
    columns: list[str] = []
    symbols: list[str] = []
    for line in map(str.strip, text.splitlines()):
        if symbols and (not line or line.startswith(("_", "loop_", "data_", "#"))):
            break
        if line.startswith("loop_"):
            columns = []  # those before were of another loop, such as of displacements
        elif line.startswith("_atom_site_"):
            columns.append(line.split()[0])
        elif not line or line.startswith(("_", "data_", "#")):
            continue
        elif columns:
            words = line.split()
            wanted = ("_atom_site_type_symbol", "_atom_site_label")
            places = [columns.index(name) for name in wanted if name in columns]
            if places and len(words) > places[0]:
                found = _SYMBOL.match(words[places[0]])
                symbols.append(found[0].capitalize() if found else words[places[0]])
    return symbols
