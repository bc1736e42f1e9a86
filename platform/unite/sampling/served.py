"""The tables of a served model: what a domain takes in, and what it gives.

A table has one of two forms: conditions of samples to be drawn, or stored samples to be
reconstructed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from unite.domains.base import BadRows, Domain
from unite.models.unite import UNITE
from unite.sampling.seeds import Conditions


class Served(ABC):
    """Columns and words of one domain."""

    inputs: Mapping[str, str]
    """Every column that may go in -> its type in MLflow's words."""
    outputs: Mapping[str, str] | tuple[int, ...]
    """Columns that come out with their types, or the shape of each uint8 array."""
    condition: str
    """Column of samples to be drawn."""
    stored: tuple[str, ...]
    """Columns of samples to be reconstructed, the first of which says that they are given."""
    question: str
    """Both forms of a table in words, for errors."""
    hint: str = ""
    """End of such an error."""
    about: str
    """Sentence on what the model draws and reads."""
    example: str
    """Words of a model card on its columns, and a call as Python code."""
    limits: str
    """Sentence on what the model knows."""

    @abstractmethod
    def conditions(self, cells: Sequence[Any], model: UNITE, seeds_B: Tensor) -> Conditions:
        """Conditions of a column of samples to be drawn; ValueError names the row."""

    def rows(self, columns: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
        """Columns of samples to be reconstructed as the domain's own columns."""
        return {name: columns[name] for name in self.stored}

    def refused(self, fields: Mapping[str, np.ndarray], model: UNITE) -> BadRows:
        """Decoded rows that the model cannot reconstruct, with the reason."""
        return []

    @abstractmethod
    def result(self, domain: Domain, batches: Sequence[tuple[Any, Tensor | None]]) -> Any:
        """Reconstructions with their masks, in batches, in the form that comes out."""


def is_whole(cell: Any) -> bool:
    """True for an integer; bool, which Python counts among them, is none."""
    return isinstance(cell, int | np.integer) and not isinstance(cell, bool)
