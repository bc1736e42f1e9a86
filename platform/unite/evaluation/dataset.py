"""Data sets as tasks name them."""

from __future__ import annotations

from dataclasses import dataclass, field

from unite.config.schema import DomainConfig
from unite.data.classes import ClassCounts, count_classes
from unite.data.ingest.builtin import prepare_builtin
from unite.data.manifest import encoding_name
from unite.data.parts import absolute, each_part
from unite.data.shards import ShardSet, Split
from unite.domains.columns import Columns
from unite.domains.stored import stored_of
from unite.runs import builtin_folder, is_builtin
from unite.storage import Store

MOST_IMAGES = 50_000
"""Largest number of held-out rows that are measured by default."""


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One split of a data set; equal when its content is."""

    split: Split
    digest: str
    """Digest of its manifest."""
    num_rows: int
    uri: str = field(compare=False)
    encoding: str = field(default="unknown", compare=False)
    """Format of its images (`encoding_name`); the digest determines it."""

    @classmethod
    def open(cls, uri: str, split: Split, columns: Columns) -> Dataset:
        """Look at the shards of a split; ShardError when there are none."""
        return cls.of(ShardSet.open(uri, split, columns), split)

    @classmethod
    def of(cls, shards: ShardSet, split: Split) -> Dataset:
        """Shards of a split, as tasks name them."""
        return cls(
            uri=shards.uri,
            split=split,
            digest=shards.digest,
            num_rows=shards.num_rows,
            encoding=encoding_name(shards.manifest.preparation if shards.manifest else {}),
        )


def class_counts(data: Dataset, config: DomainConfig) -> ClassCounts | None:
    """Rows of each class of a data set; ValueError as of `count_classes`."""
    shards = ShardSet.open(data.uri, data.split, stored_of(config).columns)
    return count_classes(shards, config.num_classes)


def data_folder(uri: str, storage: str) -> str:
    """Absolute place of a data set; a built-in one is made below the storage if need be."""
    if not is_builtin(uri):
        return each_part(absolute, uri)
    folder = Store.open(builtin_folder(uri, Store.open(storage).uri))
    prepare_builtin(uri, folder)
    return folder.uri


def undecodable(data: Dataset, wanted: int, counted: int) -> tuple[str, ...]:
    """A remark when rows were left out because they cannot be decoded; cards count the others."""
    if wanted == counted:
        return ()
    return (
        f"{wanted - counted} of the first {wanted:,} rows of {data.uri} cannot be decoded and are "
        "left out; the worker's log names them. Prepare the data again (jobs/prepare_data.py)",
    )
