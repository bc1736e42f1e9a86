"""Accumulators: counts of samples that add up, so that any number of workers gives one result.

A worker updates empty accumulators with the batches of a chunk and keeps their arrays; the driver
merges the chunks in the order of their index and asks for the result. Samples never travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Accumulator(Protocol):
    """Counts of the samples seen so far, under settings that were fixed before the first one.

    Its `update` counts a batch in, with arguments of its own.
    """

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Counts as arrays for an npz file, without the settings."""
        ...

    def merge(self, arrays: Arrays) -> None:
        """Add what `to_arrays` gave of another one of the same settings; ValueError, KeyError or
        TypeError for arrays that do not fit them."""
        ...


Totals = Mapping[str, Accumulator]
"""Accumulators by name. A name that ends with "/" stands before the names of its arrays in a file;
the arrays of the others keep theirs."""


def to_arrays(totals: Totals) -> dict[str, np.ndarray]:
    """Arrays of all accumulators, under distinct names."""
    return {
        f"{_prefix(name)}{key}": array
        for name, total in totals.items()
        for key, array in total.to_arrays().items()
    }


def merge_arrays(totals: Totals, arrays: Arrays) -> None:
    """Count in what `to_arrays` gave of accumulators with the same names and settings."""
    for name, total in totals.items():
        prefix = _prefix(name)
        own = {key.removeprefix(prefix): a for key, a in arrays.items() if key.startswith(prefix)}
        total.merge(own)


def _prefix(name: str) -> str:
    return name if name.endswith("/") else ""


class Stack:
    """Rows that are kept as they are: arrays by name, in the order in which they came."""

    def __init__(self, *names: str) -> None:
        self.names = names
        """Names of its arrays; none = all that it is given."""
        self.parts: dict[str, list[np.ndarray]] = {}

    def update(self, **arrays: np.ndarray) -> None:
        """Keep the rows of a batch; a number counts as one row."""
        for name, array in arrays.items():
            self.parts.setdefault(name, []).append(np.atleast_1d(array))

    def merge(self, arrays: Arrays) -> None:
        """Append the rows of another stack."""
        self.update(**{name: arrays[name] for name in self.names or arrays if name in arrays})

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All rows by name; names without rows are left out."""
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}

    result = to_arrays


class Sums:
    """Arrays that add up, by name; the first batch gives their shapes."""

    def __init__(self, *names: str) -> None:
        self.names = names
        """Names of its arrays; none = all that it is given."""
        self.arrays: dict[str, np.ndarray] = {}

    def update(self, **arrays: np.ndarray) -> None:
        """Add the sums of a batch."""
        for name, array in arrays.items():
            self.arrays[name] = array + self.arrays.get(name, 0)

    def merge(self, arrays: Arrays) -> None:
        """Add the sums of another one; KeyError for a name that is missing, ValueError for other
        names than before."""
        own = {name: arrays[name] for name in self.names or arrays}
        if self.arrays and own and self.arrays.keys() != own.keys():
            raise ValueError(f"sums of {set(own)} cannot be added to {set(self.arrays)}")
        self.update(**own)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Sums by name; nothing before the first batch."""
        return {name: np.asarray(array) for name, array in self.arrays.items()}

    result = to_arrays
