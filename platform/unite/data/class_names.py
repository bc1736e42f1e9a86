"""Class names that files of a split carry, which all of them have to share."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pyarrow.parquet as pq

from unite.data.manifest import ShardError


def hugging_face_classes(
    uri: str, footers: Mapping[str, pq.FileMetaData], column: str = "label"
) -> tuple[str, ...] | None:
    """Names that the `datasets` library keeps in the metadata of files, by file name.

    None when no file has any. ShardError when two files number their classes differently: one
    label would mean two classes. Files without names are taken to follow the others.
    """
    first, names = "", None
    for file, footer in footers.items():
        found = _names(footer, column)
        if names is None:
            first, names = file, found
        elif found is not None and found != names:
            pairs = enumerate(zip(names, found, strict=False))
            label = next((i for i, (a, b) in pairs if a != b), min(len(names), len(found)))
            raise ShardError(
                f"{uri}: {first} names {len(names)} classes and {file} {len(found)}, and from "
                f"label {label} on they differ ({_at(names, label)} and {_at(found, label)}). They "
                "are of different data sets: move one to a folder of its own, or number both alike"
            )
    return names


def _names(footer: pq.FileMetaData, column: str) -> tuple[str, ...] | None:
    try:
        info = json.loads((footer.metadata or {})[b"huggingface"])
        return tuple(info["info"]["features"][column]["names"])
    except (KeyError, TypeError, ValueError):
        return None


def _at(names: tuple[str, ...], label: int) -> str:
    return repr(names[label]) if label < len(names) else "none"
