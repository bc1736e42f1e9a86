"""Size, channels and classes of a data set of images, from the images themselves."""

from __future__ import annotations

from unite.config.schema import ImagesConfig
from unite.data.manifest import ShardError
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.domains.image_files import open_image
from unite.evaluation.dataset import Dataset

FIRST_IMAGES = 16
"""Largest number of images that are looked at to read a data set."""
GREY = ("1", "L", "I;16", "I;16B")
"""Pillow's modes without colour."""


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
