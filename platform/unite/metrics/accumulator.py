"""Accumulators: counts of samples that add up, so that any number of workers gives one result.

A worker updates empty accumulators with the batches of a chunk and keeps their arrays; the driver
merges the chunks in the order of their index and asks for the result. Samples never travel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Self

import numpy as np

Arrays = Mapping[str, np.ndarray]


class Accumulator(Protocol):
    """Counts of the samples seen so far, under settings that were fixed before the first one."""

    @property
    def update(self) -> Any:
        """Method that counts a batch in; its arguments are the accumulator's own."""
        ...

    def merge(self, other: Any) -> None:
        """Add the counts of another one of the same settings; ValueError for other settings."""
        ...

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Counts as arrays for an npz file, without the settings."""
        ...

    def from_arrays(self, arrays: Arrays) -> Self:
        """A new accumulator of this one's settings that holds what `to_arrays` gave."""
        ...

    def result(self) -> Any:
        """The figures; ValueError when too little was counted."""
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
        total.merge(total.from_arrays(own))


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

    def merge(self, other: Stack) -> None:
        """Append the rows of another stack."""
        self.update(**other.to_arrays())

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All rows by name; names without rows are left out."""
        return {name: np.concatenate(parts) for name, parts in self.parts.items()}

    def from_arrays(self, arrays: Arrays) -> Stack:
        """A stack of the same names."""
        stack = Stack(*self.names)
        stack.update(**{name: arrays[name] for name in self.names or arrays if name in arrays})
        return stack

    def result(self) -> dict[str, np.ndarray]:
        """All rows by name; names without rows are left out."""
        return self.to_arrays()


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

    def merge(self, other: Sums) -> None:
        """Add the sums of another one; ValueError for those of other names."""
        if self.arrays and other.arrays and self.arrays.keys() != other.arrays.keys():
            raise ValueError(f"sums of {set(other.arrays)} cannot be added to {set(self.arrays)}")
        self.update(**other.arrays)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Sums by name; nothing before the first batch."""
        return {name: np.asarray(array) for name, array in self.arrays.items()}

    def from_arrays(self, arrays: Arrays) -> Sums:
        """Sums of the same names; KeyError for one that is missing."""
        sums = Sums(*self.names)
        sums.update(**{name: arrays[name] for name in self.names or arrays})
        return sums

    def result(self) -> dict[str, np.ndarray]:
        """Sums by name; nothing before the first batch."""
        return self.to_arrays()
