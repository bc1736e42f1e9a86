"""CIF texts: a look at their atoms before a parser sees them, then pymatgen's reading of them.

The look is ours because the parser's is lenient: it takes deuterium for hydrogen and a negative
length for its size, makes dummies of unknown symbols, and is handed nothing that is too large.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from unite.data.ingest.atoms import installed
from unite.data.ingest.atoms.niggli import cell_vectors
from unite.data.ingest.atoms.rows import LARGEST_ROW, TOO_LARGE
from unite.data.ingest.atoms.text import MOST_ATOMS, element_numbers

MOST_LINES = 2 * MOST_ATOMS
MAGNETIC = "_space_group_magn"
MISFIT = 0.1
"""Share by which a symmetry operation may change lengths squared and scalar products of a cell."""
NO_GROUP = ("p1", "1", ".", "?")
"""Names and numbers of space groups without symmetry, and of none."""
_SYMBOL = re.compile(r"[A-Za-z]+")
_CELL = re.compile(r"^\s*_cell_(?:length|angle)_(\w+)\s+([^\s(]+)", re.MULTILINE | re.IGNORECASE)
_GROUP = re.compile(
    r"^\s*_(?:symmetry|space_group)_\w*?(?:name_[\w-]+|number)\s+(?!_|loop_)(\S.*?)\s*$",
    re.MULTILINE | re.IGNORECASE,
)
_OPERATIONS = re.compile(r"_symmetry_equiv_pos_as_xyz|_space_group_symop", re.IGNORECASE)
_WORD = re.compile(
    r"""^;.*?^;|'(?:[^'\n]|'(?=\S))*'|"(?:[^"\n]|"(?=\S))*"|\#[^\n]*|\S+""",
    re.MULTILINE | re.DOTALL,
)
"""A value, name or comment of a CIF: a text between semicolons, in quotes, or one word."""


def read_cif(text: str) -> dict[str, np.ndarray]:
    """`numbers` (N,), flat `frac`, `lengths` in A and `angles` in degrees of a CIF.

    Atoms come in the parser's order, that of CDVAE's and ADiT's arrays: by electronegativity, equal
    elements as in the text.

    ValueError "reason: details": too_large, unknown_element, hydrogens, bad_cell, nonfinite,
    disordered, symmetry, parse, or the extra that is missing.
    """
    look(text)
    parser = installed.require("pymatgen.io.cif", "chem", "reading CIF files")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # those that matter are reasons here
            reader = parser.CifParser.from_str(text, frac_tolerance=0)
            structure = reader.parse_structures(primitive=False)[0]
    except Exception as error:  # it raises whatever a broken text leads it to
        raise ValueError(f"parse: {type(error).__name__}: {error}") from error
    turns = [each.rotation_matrix for each in reader.symmetry_operations]
    _check_symmetry(text, turns, structure.lattice.matrix)
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
    loops = [columns for columns in _loops(text) if _symbols(columns)]
    symbols = [symbol for columns in loops for symbol in _symbols(columns)]
    if not symbols:
        raise ValueError("parse: the CIF has no loop of atoms with _atom_site_ columns")
    if len(symbols) > MOST_ATOMS:
        raise ValueError(f"{TOO_LARGE}: a CIF of {len(symbols):,} atoms")
    element_numbers(symbols)
    for columns in loops:
        _check_sites(columns)
    _check_cell(text)


def _check_sites(columns: dict[str, list[str]]) -> None:
    """ValueError for atoms that the parser would leave out: hydrogens that a site stands for with
    its own, and sites whose occupancy is a dot, which it takes for 0."""
    attached = columns.get("_atom_site_attached_hydrogens", [])
    if any(word.strip("0.") not in ("", "?") for word in attached):
        raise ValueError("hydrogens: some are attached to other atoms and have no coordinates")
    if "." in columns.get("_atom_site_occupancy", []):
        raise ValueError("disordered: the occupancy of a site is '.', not a number")


def _check_symmetry(text: str, turns: Sequence[np.ndarray], cell_33: np.ndarray) -> None:
    """ValueError where the parser has other symmetry operations than the crystal: none, as it does
    not know the space group's name, or those of another setting, which do not fit the cell."""
    names = [re.split(r"\s+#", name)[0].strip("'\"") for name in _GROUP.findall(text)]
    named = [name for name in names if re.sub(r"[\s_]", "", name).lower() not in NO_GROUP]
    if len(turns) == 1 and named and not _OPERATIONS.search(text):
        raise ValueError(
            f"symmetry: the CIF lists no symmetry operations, and those of its space group "
            f"{named[0]!r} are not known"
        )
    metric_33 = cell_33 @ cell_33.T
    lengths_3 = np.sqrt(np.diag(metric_33))
    for turn_33 in turns:
        change_33 = (turn_33.T @ metric_33 @ turn_33 - metric_33) / np.outer(lengths_3, lengths_3)
        if np.abs(change_33).max() > MISFIT:
            raise ValueError(
                "symmetry: its operations are of another setting than the cell, such as hexagonal "
                "and rhombohedral axes"
            )


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


def _loops(text: str) -> Iterator[dict[str, list[str]]]:
    """Columns of each loop by their names in small letters; rows may be broken over lines."""
    for loop in re.split(r"(?im)^\s*loop_(?=\s)", text)[1:]:
        words = (word for word in _WORD.findall(loop) if not word.startswith("#"))
        names, values = [], []
        for word in words:
            is_name = word.startswith("_")
            if word.lower().startswith(("data_", "save_")) or (is_name and values):
                break
            (names if is_name else values).append(word.lower() if is_name else word)
        yield {name: values[place :: len(names)] for place, name in enumerate(names)}


def _symbols(columns: dict[str, list[str]]) -> list[str]:
    """Symbols of a loop of atoms, without charges and numbers; none of another loop."""
    wanted = ("_atom_site_type_symbol", "_atom_site_label")
    words = next((columns[name] for name in wanted if name in columns), [])
    found = [(word, _SYMBOL.match(word.strip("'\""))) for word in words]
    return [match[0].capitalize() if match else word for word, match in found]
