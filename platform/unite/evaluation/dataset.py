"""A data set as tasks name it, and what its images look like."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Literal

from PIL import Image, UnidentifiedImageError

from unite.config.schema import ImagesConfig
from unite.data.classes import ClassCounts, count_classes
from unite.data.ingest.digits import prepare_digits
from unite.data.manifest import ShardError, encoding_name
from unite.data.shards import ShardSet
from unite.storage import Store
from unite.training.runs import DIGITS

Split = Literal["train", "eval"]


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One split of a data set; equal when its content is."""

    split: Split
    digest: str
    """Of its manifest."""
    num_rows: int
    uri: str = field(compare=False)
    encoding: str = field(default="unknown", compare=False)
    """How its images are stored (`encoding_name`); it follows from what the digest names."""

    @classmethod
    def open(cls, uri: str, split: Split) -> Dataset:
        """Look at the shards of a split; ShardError when there are none."""
        return cls.of(ShardSet.open(uri, split=split), split)

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


def class_counts(data: Dataset, num_classes: int) -> ClassCounts | None:
    """Rows of each class of a data set; ValueError as of `count_classes`."""
    return count_classes(ShardSet.open(data.uri, split=data.split), num_classes)


def data_folder(uri: str, storage: str) -> str:
    """Absolute place of a data set; `builtin:digits` is made below the storage if need be."""
    if uri != DIGITS:
        return Store.open(uri).uri
    digits = Store.open(storage) / "data" / "digits"
    prepare_digits(digits)
    return digits.uri


def images_of(data: Dataset, *, size: int = 0, channels: int = 0) -> ImagesConfig:
    """How to read a data set: what its first image and its labels say, unless it is given."""
    shards = ShardSet.open(data.uri, split=data.split)
    stored = shards.read(0, 0, 1).column("image")[0].as_py()
    try:
        with Image.open(io.BytesIO(stored)) as image:
            grey, side = image.mode in ("L", "1", "I", "I;16"), min(image.size)
    except UnidentifiedImageError as error:
        raise ShardError(f"the first image of {data.uri} cannot be read: {error}") from error
    names = shards.class_names
    classes = len(names) if names is not None else int(shards.labels().max()) + 1
    return ImagesConfig(
        size=size or side,
        patch=1,
        channels=channels or (1 if grey else 3),
        num_classes=classes,
        flip=False,
    )


def undecodable(data: Dataset, wanted: int, counted: int) -> tuple[str, ...]:
    """A remark when rows were left out because they cannot be decoded; cards count the others."""
    if wanted == counted:
        return ()
    return (
        f"{wanted - counted} of the first {wanted:,} rows of {data.uri} cannot be decoded and are "
        "left out; the worker's log names them. Prepare the data again (jobs/prepare_data.py)",
    )
