"""Wanted columns against the columns that a parquet file has: one rule for every reader.

A column is taken by its own name, else by the one alias that is there and has a fitting type; two
such aliases are an error, never a choice. Types are compared with the kind that the domain states,
so that nothing is cast: labels of float, bool, text, lists or nulls are refused, and a dictionary
(categorical) column counts as its values, never as its codes. A column of pictures may be a struct
{bytes, path}, of which only the bytes are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pyarrow as pa

from unite.data.manifest import ShardError
from unite.domains.columns import Column, Columns, column_of, names_of

STRUCT_FIELD = "bytes"
CURES = {
    "bytes": "store the bytes of image files (PNG, JPEG) in it, as binary or {bytes, path}",
    "integer": "number the classes 0, 1, ... and store the numbers as int64",
}
_HOLD = {"bytes": "the bytes of image files", "integer": "whole numbers"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A wanted column as a file holds it."""

    name: str
    """Name that readers use."""
    file_name: str
    """Name in the file."""
    is_struct: bool
    """True if the cells are structs of which STRUCT_FIELD is read."""

    @property
    def leaf(self) -> str:
        """Path of the column in parquet."""
        return f"{self.file_name}.{STRUCT_FIELD}" if self.is_struct else self.file_name


def match_columns(where: str, schema: pa.Schema, wanted: Columns) -> tuple[Stored, ...]:
    """The columns of a file that are meant by `wanted`, in that order; without optional ones that
    it lacks.

    ShardError in one line with the file (`where`), the column, its type and the fix when one is
    absent, is ambiguous or has another type than its kind.
    """
    columns = [column_of(column) for column in wanted]
    there = [c for c in columns if not (c.optional and _lacks(schema, c))]
    return tuple(_match(where, schema, column) for column in there)


def with_optional(table: pa.Table, wanted: Columns) -> pa.Table:
    """A table with all of `wanted`: cells of optional columns that the file lacks are null."""
    for name in names_of(wanted):
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(table.num_rows, pa.binary()))
    return table


def _lacks(schema: pa.Schema, column: Column) -> bool:
    return not {column.name, *column.aliases} & set(schema.names)


def agreed_names(found: Mapping[str, tuple[Stored, ...]]) -> dict[str, str]:
    """Wanted column -> its name in all files; ShardError when two files have different names."""
    agreed: dict[str, tuple[str, str]] = {}
    for file, stored in found.items():
        for each in stored:
            first, name = agreed.setdefault(each.name, (file, each.file_name))
            if name != each.file_name:
                raise ShardError(
                    f"{file} has the {each.name} in the column {each.file_name}, {first} in "
                    f"{name}: rename one of them"
                )
    return {wanted: name for wanted, (_, name) in agreed.items()}


def renaming_notes(names: Mapping[str, str]) -> tuple[str, ...]:
    """Notes of a plan on columns that were taken by another name."""
    others = [f"{wanted} from {name}" for wanted, name in names.items() if wanted != name]
    return (f"columns: {', '.join(others)}",) if others else ()


def read_leaves(table: pa.Table, stored: tuple[Stored, ...]) -> pa.Table:
    """A table of the leaves as readers want it: flat, without dictionaries, by wanted names."""
    return pa.table({each.name: _read_leaf(table.column(each.file_name), each) for each in stored})


def _read_leaf(cells: pa.ChunkedArray, stored: Stored) -> pa.ChunkedArray:
    if stored.is_struct:
        cells = cells.flatten()[cells.type.get_field_index(STRUCT_FIELD)]
    return cells.cast(_plain(cells.type)) if pa.types.is_dictionary(cells.type) else cells


def _match(where: str, schema: pa.Schema, column: Column) -> Stored:
    name = _name_in(where, schema, column)
    kind = schema.field(name).type
    if not _fits(kind, column):
        raise ShardError(
            f"{where}: the column {name} is of type {kind}, but must hold {_HOLD[column.kind]}: "
            f"{CURES[column.kind]}"
        )
    return Stored(name=column.name, file_name=name, is_struct=_is_file_struct(kind, column))


def _name_in(where: str, schema: pa.Schema, column: Column) -> str:
    if schema.names.count(column.name) == 1:
        return column.name
    there = [alias for alias in column.aliases if schema.names.count(alias) == 1]
    fitting = [alias for alias in there if _fits(schema.field(alias).type, column)]
    if len(fitting) == 1:
        return fitting[0]
    if len(fitting) > 1:
        raise ShardError(
            f"{where}: the columns {', '.join(fitting)} can each be the {column.name}: rename the "
            f"one that is meant to {column.name}"
        )
    if there:
        return there[0]  # the error of its type says more than that nothing is there
    others = f" (nor {', '.join(column.aliases)})" if column.aliases else ""
    found = ", ".join(f"{field.name} ({field.type})" for field in schema)
    raise ShardError(
        f"{where} has no column {column.name}{others}; it has {found}: rename the one that is "
        f"meant to {column.name}"
    )


def _fits(kind: pa.DataType, column: Column) -> bool:
    if column.kind == "bytes":
        return _is_binary(_plain(kind)) or _is_file_struct(kind, column)
    return column.kind == "any" or pa.types.is_integer(_plain(kind))


def _is_file_struct(kind: pa.DataType, column: Column) -> bool:
    if column.kind == "integer" or not pa.types.is_struct(kind):
        return False
    place = kind.get_field_index(STRUCT_FIELD)
    return place >= 0 and _is_binary(kind.field(place).type)


def _is_binary(kind: pa.DataType) -> bool:
    is_kind = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_fixed_size_binary)
    return any(is_it(kind) for is_it in (*is_kind, pa.types.is_binary_view))


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind
