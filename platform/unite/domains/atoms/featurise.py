"""Stored rows of atoms to padded arrays, and the reasons for which a row is refused (METHOD 7).

A cell of a column is a list of numbers or little-endian bytes (uint8 atomic numbers, float32
positions, float64 of crystals). A reason reads "name: explanation"; refused rows are counted by the
name. Shapes: B rows, N atoms, padded to the config's most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from unite.config.domains import AtomsConfig
from unite.domains.atoms.elements import MAX_ELEMENTS, SYMBOLS
from unite.domains.atoms.geometry import cell_matrix, distances, periodic_distances, volume
from unite.domains.base import BadRows

STORED = {
    "positions": np.dtype("<f4"),
    **dict.fromkeys(("frac", "lengths", "angles"), np.dtype("<f8")),
}
"""Type of the numbers of a column of bytes."""
PER_ATOM = ("positions", "frac")
"""Columns with three numbers for each atom; the others have three for the cell."""
OVERLAP = 0.5
"""Distance in A under which two atoms overlap."""
ROUNDING = 0.01
"""Room for float32 in a bound on a distance, A: coordinates of cells of up to 1,000 A."""
SMALLEST_LENGTH = 0.5
"""Smallest length of a cell in A."""
SMALLEST_VOLUME = 0.1
"""Smallest volume of a cell in A^3."""
ANGLES = (10.0, 170.0)
"""Range of a cell's angles in degrees, both ends allowed."""
LARGEST_COORDINATE = 1e3
"""Largest coordinate, in A or in cells: beyond it a number is no position."""


def decode(
    rows: Mapping[str, Sequence[Any]], config: AtomsConfig
) -> tuple[dict[str, np.ndarray], BadRows]:
    """Columns to arrays, zeros at bad rows, and the bad rows with their reasons.

    `numbers` uint8 (B, N) and `num_atoms` int64 (B,), and for molecules `positions` float32
    (B, N, 3) with their mean at the origin, for crystals `frac` float32 in [0, 1), `lengths` and
    `angles` float32 (B, 3).
    """
    fields = _empty(len(rows["numbers"]), config)
    bad: dict[int, str] = {}
    filled_B = _fill_packed(fields, rows, config)
    for row in np.flatnonzero(~filled_B).tolist():
        try:
            _fill(fields, row, {name: cells[row] for name, cells in rows.items()}, config)
        except ValueError as error:
            bad[row] = str(error)
    for row, reason in (_bad_cells if config.periodic else _bad_molecules)(fields):
        bad.setdefault(row, reason)
    for values in fields.values():
        values[list(bad)] = 0
    return fields, sorted(bad.items())


def smallest_distances(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """Smallest distance in A between two atoms of each row, (B,); infinite for one atom or none."""
    mask_BN = torch.from_numpy(fields["numbers"] > 0)
    if not mask_BN.shape[1]:
        return np.full(len(mask_BN), np.inf, np.float32)
    if "frac" not in fields:
        apart_BNN = distances(torch.from_numpy(fields["positions"]), mask_BN)
    else:
        lengths, angles = torch.from_numpy(fields["lengths"]), torch.from_numpy(fields["angles"])
        cell_B33 = cell_matrix(lengths, angles)
        apart_BNN = periodic_distances(torch.from_numpy(fields["frac"]), cell_B33, mask_BN)
    return apart_BNN.amin((1, 2)).numpy()


def _empty(count: int, config: AtomsConfig) -> dict[str, np.ndarray]:
    most = config.max_atoms
    fields = {
        "numbers": np.zeros((count, most), np.uint8),
        "num_atoms": np.zeros(count, np.int64),
    }
    if not config.periodic:
        return fields | {"positions": np.zeros((count, most, 3), np.float32)}
    fields["frac"] = np.zeros((count, most, 3), np.float32)
    return fields | {name: np.zeros((count, 3), np.float32) for name in ("lengths", "angles")}


def _fill_packed(
    fields: dict[str, np.ndarray], rows: Mapping[str, Sequence[Any]], config: AtomsConfig
) -> np.ndarray:
    """Write at once all rows of bytes with nothing wrong; True at these, (B,).

    `_fill` writes the others one by one, and says what is wrong with a row.
    """
    sizes_B = _byte_counts(rows["numbers"])
    good_B = (sizes_B > 0) & (sizes_B <= config.max_atoms)
    kinds = {name: kind for name, kind in STORED.items() if name in fields}
    for name, kind in kinds.items():
        atoms_B = sizes_B if name in PER_ATOM else 1
        good_B &= _byte_counts(rows[name]) == 3 * kind.itemsize * atoms_B
    chosen = np.flatnonzero(good_B)
    mask_BN = np.arange(config.max_atoms) < sizes_B[chosen, None]
    numbers_BN = np.zeros(mask_BN.shape, np.uint8)
    numbers_BN[mask_BN] = _joined(rows["numbers"], chosen, np.dtype(np.uint8))
    known = np.isin(np.arange(256), config.elements or range(1, MAX_ELEMENTS))
    sound_B = (known[numbers_BN] | ~mask_BN).all(1)
    values: dict[str, np.ndarray] = {}
    for name, kind in kinds.items():
        flat = _joined(rows[name], chosen, kind).reshape(-1, 3)
        values[name] = np.zeros((*mask_BN.shape, 3)) if name in PER_ATOM else flat
        if name in PER_ATOM:
            values[name][mask_BN] = flat
        within = np.abs(values[name]) <= LARGEST_COORDINATE  # False at NaN
        sound_B &= within.all(axis=tuple(range(1, within.ndim)))
    kept = chosen[sound_B]
    fields["numbers"][kept], fields["num_atoms"][kept] = numbers_BN[sound_B], sizes_B[kept]
    for name, each in values.items():
        fields[name][kept] = _as_decoded(name, each[sound_B], mask_BN[sound_B])
    good_B[chosen] = sound_B
    return good_B


def _byte_counts(cells: Sequence[Any]) -> np.ndarray:
    """Number of bytes of each cell, (B,); -1 for what is no bytes."""
    return np.array([len(cell) if isinstance(cell, bytes) else -1 for cell in cells], np.int64)


def _joined(cells: Sequence[Any], chosen: np.ndarray, kind: np.dtype) -> np.ndarray:
    """The numbers of chosen cells of bytes, one after the other."""
    return np.frombuffer(b"".join([cells[row] for row in chosen.tolist()]), kind)


def _as_decoded(name: str, values: np.ndarray, mask_BN: np.ndarray) -> np.ndarray:
    """Stored coordinates in the form of decoded ones; zero at padding."""
    if name == "positions":
        values = values - values.sum(1, keepdims=True) / mask_BN.sum(1)[:, None, None]
        return values * mask_BN[..., None]
    # Rounding to float32 after the wrap can make a 1 of it.
    return (values % 1.0).astype(np.float32) % 1.0 if name == "frac" else values


def _fill(
    fields: dict[str, np.ndarray], row: int, cells: Mapping[str, Any], config: AtomsConfig
) -> None:
    """Write one row's cells into the arrays; ValueError with the reason when they do not fit."""
    numbers = _numbers(cells["numbers"], config)
    num_atoms = len(numbers)
    if not config.periodic:
        positions = _floats(cells["positions"], np.float32, 3 * num_atoms, "positions")
        positions = positions.astype(np.float64).reshape(1, num_atoms, 3)
        mask_BN = np.ones((1, num_atoms), bool)
        fields["positions"][row, :num_atoms] = _as_decoded("positions", positions, mask_BN)[0]
    else:
        frac = _floats(cells["frac"], np.float64, 3 * num_atoms, "frac")
        mask_BN = np.ones((1, num_atoms), bool)
        fields["frac"][row, :num_atoms] = _as_decoded("frac", frac.reshape(-1, 3), mask_BN)
        for name in ("lengths", "angles"):
            fields[name][row] = _floats(cells[name], np.float64, 3, name)
    fields["numbers"][row, :num_atoms] = numbers
    fields["num_atoms"][row] = num_atoms


def _numbers(cell: Any, config: AtomsConfig) -> np.ndarray:
    """Atomic numbers (N,) of a cell; ValueError when there are none, too many or unknown ones."""
    numbers = _values(cell, np.uint8, "numbers")
    if not len(numbers):
        raise ValueError("empty: the row has no atoms")
    if len(numbers) > config.max_atoms:
        raise ValueError(
            f"too_many_atoms: {len(numbers)} atoms, but domain.max_atoms = {config.max_atoms}"
        )
    known = np.isin(numbers, config.elements or range(1, MAX_ELEMENTS))
    if not known.all():
        first = numbers[~known][0]
        raise ValueError(f"unknown_element: {_element(first)}; known: {known_elements(config)}")
    return numbers


def known_elements(config: AtomsConfig) -> str:
    """Symbols of the elements that a config allows, in words."""
    listed = " ".join(SYMBOLS[number] for number in config.elements)
    return listed or f"atomic numbers 1..{MAX_ELEMENTS - 1}"


def _element(number: Any) -> str:
    whole = number in range(1, MAX_ELEMENTS)
    return SYMBOLS[int(number)] if whole else f"atomic number {number}"


def _floats(cell: Any, stored: type, count: int, name: str) -> np.ndarray:
    """Coordinates of a cell, (count,); ValueError for another count and for no finite numbers."""
    values = _values(cell, stored, name)
    if len(values) != count:
        raise ValueError(f"shape: {name} holds {len(values)} numbers, not {count}")
    if not np.isfinite(values).all() or np.abs(values).max() > LARGEST_COORDINATE:
        raise ValueError(f"nonfinite: {name} holds a number that is not finite or above 1000")
    return values


def _values(cell: Any, stored: type, name: str) -> np.ndarray:
    """A cell's numbers, flat: bytes hold the little-endian `stored` type, lists any numbers."""
    if isinstance(cell, bytes):
        itemsize = np.dtype(stored).itemsize
        if len(cell) % itemsize:
            raise ValueError(f"shape: {name} holds {len(cell)} bytes, no multiple of {itemsize}")
        return np.frombuffer(cell, np.dtype(stored).newbyteorder("<"))
    try:
        values = np.asarray(cell, dtype=None if stored is np.uint8 else np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"shape: {name} is no list of numbers") from error
    if values.dtype.kind not in "iuf" or values.ndim != 1:
        if values.size:
            raise ValueError(f"shape: {name} is no flat list of numbers")
        return np.zeros(0, stored)
    return values


def _bad_molecules(fields: Mapping[str, np.ndarray]) -> BadRows:
    return _overlaps(fields)


def _bad_cells(fields: Mapping[str, np.ndarray]) -> BadRows:
    """Rows whose cell is none, and those with atoms on top of each other."""
    lengths, angles = fields["lengths"].astype(np.float64), fields["angles"].astype(np.float64)
    size = volume(torch.from_numpy(lengths), torch.from_numpy(angles)).numpy()
    low, high = ANGLES
    short_B = np.any(~(lengths > SMALLEST_LENGTH), axis=1)
    bent_B = np.any(~((angles >= low) & (angles <= high)), axis=1)
    flat_B = ~(size >= SMALLEST_VOLUME)  # also NaN
    found: dict[int, str] = {}
    for row in np.flatnonzero((short_B | bent_B | flat_B) & (fields["num_atoms"] > 0)).tolist():
        a_b_c, corners = _words(lengths[row]), _words(angles[row])
        if short_B[row]:
            found[row] = f"bad_cell: lengths {a_b_c} A must be above {SMALLEST_LENGTH}"
        elif bent_B[row]:
            found[row] = f"bad_cell: angles {corners} must lie in {low:g}..{high:g}"
        else:
            found[row] = f"bad_cell: angles {corners} span no volume"
    return sorted((dict(_overlaps(fields)) | found).items())


def _overlaps(fields: Mapping[str, np.ndarray]) -> BadRows:
    """Rows with atoms on top of each other; all images of a cell are looked at where need be."""
    rows_B = np.arange(len(fields["numbers"]))
    if "frac" in fields:
        rows_B = np.flatnonzero(~_far_apart(fields))
    nearest = smallest_distances({name: values[rows_B] for name, values in fields.items()})
    return [
        (int(row), f"overlap: two atoms are {distance:.2f} A apart, at least {OVERLAP} needed")
        for row, distance in zip(rows_B, nearest, strict=True)
        if distance < OVERLAP
    ]


def _far_apart(fields: Mapping[str, np.ndarray]) -> np.ndarray:
    """True at cells whose atoms cannot overlap, (B,): a bound that needs no images.

    No image of an atom is nearer than the distance of the planes through both, which is that of the
    cell's faces times the wrapped difference of their coordinates.
    """
    cell_B33 = cell_matrix(*(torch.from_numpy(fields[name]) for name in ("lengths", "angles")))
    faces_B33 = torch.linalg.cross(cell_B33.roll(-1, 1), cell_B33.roll(-2, 1))
    volume_B1 = (cell_B33[:, 0] * faces_B33[:, 0]).sum(-1, keepdim=True).abs()
    heights_B3 = (volume_B1 / faces_B33.norm(dim=-1)).numpy()
    first, second = np.triu_indices(fields["numbers"].shape[1], 1)
    between_BP3 = fields["frac"][:, first] - fields["frac"][:, second]
    between_BP3 -= np.rint(between_BP3)
    apart_BP = (np.abs(between_BP3) * heights_B3[:, None]).max(-1)
    absent_BP = (fields["numbers"] == 0)[:, second]
    return ((apart_BP > OVERLAP + ROUNDING) | absent_BP).all(1)


def _words(values: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in values)
