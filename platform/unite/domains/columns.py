"""Stored columns that a domain reads: their names, other names they go by, and their types.

A domain lists its columns as `Column`s; a plain string is a column of that name and any type. The
rule by which a file's columns are matched with them is in `unite.data.columns`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column by the name that `decode_rows` knows it by."""

    name: str
    kind: Literal["any", "bytes", "integer"] = "any"
    """Content of the cells: anything, the bytes of a file (binary, or a struct with binary
    `bytes`), or whole numbers. A column with a dictionary is judged by the dictionary's values."""
    aliases: tuple[str, ...] = ()
    """Other names, accepted where no column is called `name`."""
    optional: bool = False
    """True if a file may lack it: its cells are then None. No file may have a column that fits two
    kinds of samples in one row."""


IMAGE = Column(name="image", kind="bytes", aliases=("img", "jpg", "webp", "png", "pixel_values"))
LABEL = Column(name="label", kind="integer", aliases=("labels", "class", "cls", "fine_label"))

Columns = Sequence[Column | str]
IMAGES: Columns = (IMAGE, LABEL)
"""Columns of the domain of images."""

NUMBERS = Column(name="numbers", aliases=("atomic_numbers",))
POSITIONS = Column(name="positions", aliases=("pos",))
FRAC = Column(name="frac", aliases=("frac_coords",))

MOLECULES: Columns = (NUMBERS, POSITIONS)
"""Columns of molecules."""
CRYSTALS: Columns = (NUMBERS, FRAC, "lengths", "angles")
"""Columns of crystals."""
STRUCTURES: Columns = (
    NUMBERS,
    *(
        Column(name=column.name, aliases=column.aliases, optional=True)
        for column in (POSITIONS, FRAC, Column(name="lengths"), Column(name="angles"))
    ),
)
"""Columns of both in one table: a row has those of its kind."""


def column_of(column: Column | str) -> Column:
    """The `Column` for an entry of `Domain.columns`; a plain string accepts any type."""
    return Column(name=column) if isinstance(column, str) else column


def names_of(columns: Columns) -> tuple[str, ...]:
    """The names that `decode_rows` and readers of rows know the columns by."""
    return tuple(column_of(column).name for column in columns)
