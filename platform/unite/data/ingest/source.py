"""A source of images: its rows in parts, and the kind of source at a path."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from unite.data.folder import holds_parquet
from unite.data.ingest.classes import Naming
from unite.data.manifest import ShardError
from unite.data.order import permutation
from unite.storage import Store

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

_SHUFFLE = 3
"""First word of the address of the shuffle; `unite.data.order` uses the lower ones."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """A source row: the bytes of an image file, its class and where it came from."""

    image: bytes | None
    label: int | None
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


def open_source(uri: str, split: str, rows_per_part: int, naming: Naming) -> Source:
    """List the source at `uri`: a tar, a folder of parquet or a tree of class folders.

    Raises ShardError when nothing usable is there.
    """
    from unite.data.ingest import huggingface, imagefolder, tar

    store = Store.open(uri)
    if store.is_file():
        if not uri.lower().endswith(".tar"):
            raise ShardError(
                f"{uri} is a file but no .tar; name an uncompressed tar, a tree of class folders "
                "or a folder of parquet"
            )
        return tar.open_tar(store, split, rows_per_part, naming)
    if not store.exists():
        raise ShardError(f"the source {uri} does not exist")
    if holds_parquet(store):
        return huggingface.open_parquet(store, split, rows_per_part, naming)
    return imagefolder.open_folder(store, split, rows_per_part, naming)
