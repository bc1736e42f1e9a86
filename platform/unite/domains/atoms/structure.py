"""A molecule or crystal by itself, outside of batches: arrays, and its text as XYZ or CIF."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from unite.domains.atoms.elements import SYMBOLS, formula
from unite.lazy import torch


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """Atoms in the order of the model; a crystal has `frac`, `lengths` and `angles` too."""

    numbers: np.ndarray
    """Atomic numbers, int64 (N,)."""
    positions: np.ndarray
    """Cartesian coordinates in A, float64 (N, 3)."""
    frac: np.ndarray | None = None
    """Fractional coordinates in [0, 1), float64 (N, 3)."""
    lengths: np.ndarray | None = None
    """Lengths a, b, c of the cell in A, float64 (3,)."""
    angles: np.ndarray | None = None
    """Angles alpha, beta, gamma of the cell in degrees, float64 (3,)."""

    @property
    def formula(self) -> str:
        """Formula in Hill's order."""
        return formula(self.numbers.tolist())

    @property
    def cell(self) -> np.ndarray | None:
        """Vectors a, b, c of the cell in A, float64 (3, 3); None for a molecule."""
        from unite.domains.atoms.geometry import cell_matrix

        if self.lengths is None or self.angles is None:
            return None
        lengths, angles = (
            torch.tensor(np.asarray(v, float))[None] for v in (self.lengths, self.angles)
        )
        return cell_matrix(lengths, angles)[0].numpy()

    def bonds(self, tolerance: float) -> np.ndarray:
        """True between bonded atoms, (N, N), by the distance rule; none across a cell's faces."""
        from unite.domains.atoms.geometry import bonds, distances

        types = torch.as_tensor(np.asarray(self.numbers, np.int64))[None]
        positions = torch.tensor(np.asarray(self.positions, float))[None]
        return bonds(types, distances(positions, types > 0), tolerance)[0].numpy()

    def to_xyz(self, comment: str = "") -> str:
        """One frame of an XYZ file, coordinates in A; the comment must be one line."""
        if "\n" in comment or "\r" in comment:
            raise ValueError(f"comment {comment!r} of an XYZ frame must be one line")
        lines = [str(len(self.numbers)), comment]
        for number, (x, y, z) in zip(self.numbers, self.positions, strict=True):
            lines.append(f"{SYMBOLS[number]:<2} {x:14.8f} {y:14.8f} {z:14.8f}")
        return "\n".join(lines) + "\n"

    def to_cif(self, name: str = "sample") -> str:
        """A CIF without symmetry (space group P 1); ValueError for a molecule."""
        if self.frac is None or self.lengths is None or self.angles is None:
            raise ValueError("a molecule has no cell: write it with to_xyz")
        head = [f"data_{name}", "_symmetry_space_group_name_H-M 'P 1'"]
        head += [f"_cell_length_{k} {v:.8f}" for k, v in zip("abc", self.lengths, strict=True)]
        angle_names = ("alpha", "beta", "gamma")
        head += [f"_cell_angle_{k} {v:.8f}" for k, v in zip(angle_names, self.angles, strict=True)]
        head += ["_symmetry_Int_Tables_number 1", f"_chemical_formula_sum '{_spaced(self)}'"]
        head += ["loop_", " _symmetry_equiv_pos_as_xyz", " 'x, y, z'", "loop_"]
        columns = ("type_symbol", "label", *(f"fract_{axis}" for axis in "xyz"), "occupancy")
        head += [f" _atom_site_{column}" for column in columns]
        for index, (number, (x, y, z)) in enumerate(zip(self.numbers, self.frac, strict=True)):
            symbol = SYMBOLS[number]
            head.append(f" {symbol} {symbol}{index} {x:.10f} {y:.10f} {z:.10f} 1")
        return "\n".join(head) + "\n"


def _spaced(structure: Structure) -> str:
    """Formula with a space between elements, as CIF wants it."""
    text = structure.formula
    return "".join(f" {c}" if c.isupper() and i else c for i, c in enumerate(text))
