"""A source: its rows in parts, one for each shard to be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from unite.data.order import permutation

_SHUFFLE = 3
"""First word of the address of the shuffle; `unite.data.order` uses the lower ones."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A source row: its cells by name, as the source has them, and where it came from."""

    cells: Mapping[str, Any]
    path: str


class Part(Protocol):
    """The rows of one shard to be; it is sent to the process that writes the shard."""

    @property
    def num_rows(self) -> int:
        """Rows of the part."""
        ...

    def records(self) -> Iterator[Record]:
        """The rows, read when they are asked for."""
        ...


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source, listed: its rows divided into one part per shard."""

    uri: str
    num_rows: int
    parts: list[Part]
    class_names: tuple[str, ...] | None
    digest: str
    """SHA-256 of the listing; a resumed preparation refuses a source that has changed."""
    skipped: dict[str, int] = field(default_factory=dict)
    """Entries that are left out, per reason."""
    notes: tuple[str, ...] = ()
    """Notes of the plan on the reading of names."""


def shuffled_ranges(num_rows: int, rows_per_part: int) -> list[np.ndarray]:
    """Row numbers per part, in a fixed random order.

    Sources list class after class. Training shuffles row groups and windows, which would leave
    neighbours of one class together, and the first rows of a held-out set would be few classes.
    """
    order = permutation(num_rows, _SHUFFLE, num_rows)
    return [order[start : start + rows_per_part] for start in range(0, num_rows, rows_per_part)]
