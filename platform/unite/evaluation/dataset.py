"""Data sets as tasks name them, and the size and channels of their images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unite.config.schema import DomainConfig, ImagesConfig
from unite.data.classes import ClassCounts, count_classes
from unite.data.ingest.builtin import prepare_builtin
from unite.data.manifest import ShardError, encoding_name
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.domains.columns import IMAGES, Columns
from unite.domains.image_files import open_image
from unite.runs import builtin_folder, is_builtin
from unite.storage import Store

Split = Literal["train", "eval"]
FIRST_IMAGES = 16
"""Largest number of images that are looked at to read a data set."""
GREY = ("1", "L", "I;16", "I;16B")
"""Pillow's modes without colour."""


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
    shards = ShardSet.open(data.uri, data.split, build_domain(config).columns)
    return count_classes(shards, config.num_classes)


def data_folder(uri: str, storage: str) -> str:
    """Absolute place of a data set; a built-in one is made below the storage if need be."""
    if not is_builtin(uri):
        return Store.open(uri).uri
    folder = Store.open(builtin_folder(uri, Store.open(storage).uri))
    prepare_builtin(uri, folder)
    return folder.uri


def images_of(data: Dataset, *, size: int = 0, channels: int = 0) -> ImagesConfig:
    """Config for reading a data set: from its images and labels, where no value is given.

    The first images of evenly spaced row groups are looked at. They are grey if all of those are.
    ShardError when one cannot be read, or when no size is given and they have different ones.
    """
    shards = ShardSet.open(data.uri, data.split, IMAGES)
    seen = [_first_image(shards, group) for group in _spaced_groups(shards)]
    sides = sorted({side for side, _ in seen})
    if not size and len(sides) > 1:
        raise ShardError(
            f"the images of {data.uri} have different sizes (short sides of {sides[0]} to "
            f"{sides[-1]} pixels): give --size"
        )
    names = shards.class_names
    classes = len(names) if names is not None else int(shards.labels().max()) + 1
    return ImagesConfig(
        size=size or sides[0],
        patch=1,
        channels=channels or (1 if all(grey for _, grey in seen) else 3),
        num_classes=classes,
        flip=False,
    )


def _spaced_groups(shards: ShardSet) -> list[int]:
    """Numbers of row groups with rows, at most FIRST_IMAGES of them, from first to last."""
    filled = [number for number, group in enumerate(shards.row_groups) if group.num_rows]
    return filled[:: -(-len(filled) // FIRST_IMAGES)]


def _first_image(shards: ShardSet, group: int) -> tuple[int, bool]:
    """Short side in pixels of the first image of a row group, and whether it is grey."""
    cell = shards.read(group, 0, 1).column("image")[0].as_py()
    try:
        with open_image(cell or b"") as image:
            return min(image.size), image.mode in GREY
    except ValueError as error:
        file = shards.row_groups[group].file
        raise ShardError(f"the first image of {shards.uri}/{file} is {error}") from error


def undecodable(data: Dataset, wanted: int, counted: int) -> tuple[str, ...]:
    """A remark when rows were left out because they cannot be decoded; cards count the others."""
    if wanted == counted:
        return ()
    return (
        f"{wanted - counted} of the first {wanted:,} rows of {data.uri} cannot be decoded and are "
        "left out; the worker's log names them. Prepare the data again (jobs/prepare_data.py)",
    )
