"""What a source of images is, and which kind a path holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np

from unite.data.manifest import ShardError
from unite.data.order import permutation
from unite.storage import Store

IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
NOT_AN_IMAGE = "not an image file"

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


def shuffled_ranges(num_rows: int, rows_per_part: int) -> list[np.ndarray]:
    """Row numbers per part, in a fixed random order.

    Sources list class after class. Training shuffles row groups and windows, which would leave
    neighbours of one class together, and the first rows of a held-out set would be few classes.
    """
    order = permutation(num_rows, _SHUFFLE, num_rows)
    return [order[start : start + rows_per_part] for start in range(0, num_rows, rows_per_part)]


@dataclass(frozen=True, kw_only=True)
class Naming:
    """Which class a file belongs to, and which number a class has."""

    labels_file: str = ""
    """Lines of image and class; empty = the class is the folder."""
    class_names: tuple[str, ...] | None = None
    """The numbering to keep: that of the training set when its held-out set is prepared."""

    def classes(self, folders: Mapping[str, str], uri: str) -> dict[str, str]:
        """Path -> class of the images that have one; `folders` are their paths and folders.

        ShardError when a labels file misses an image, or when nothing has a class.
        """
        if not self.labels_file:
            return {path: folder for path, folder in folders.items() if folder}
        named = read_labels(self.labels_file)
        missing = [path for path in folders if _stem(path) not in named]
        if missing:
            raise ShardError(
                f"--labels {self.labels_file} has no line for {len(missing)} of {len(folders)} "
                f"images of {uri}, such as {missing[0]}; lines are: image class"
            )
        return {path: named[_stem(path)] for path in folders}

    def index(self, names: Iterable[str], uri: str) -> dict[str, int]:
        """Labels of class names: their places in the numbering to keep, or in sorted order."""
        if self.class_names is None:
            return {name: label for label, name in enumerate(sorted(set(names)))}
        unknown = sorted(set(names) - set(self.class_names))
        if unknown:
            raise ShardError(
                f"{uri} has classes that the training set in the same --out does not have: "
                f"{', '.join(unknown[:5])}. Choose another --out, or name classes alike"
            )
        return {name: label for label, name in enumerate(self.class_names)}


def read_labels(uri: str) -> dict[str, str]:
    """File name without folder and ending -> class, from lines of both, by comma or space.

    What follows the class is ignored, so ImageNet's LOC_val_solution.csv can be named as it is.
    ShardError naming a line without a class.
    """
    found: dict[str, str] = {}
    store = Store.open(uri)
    if not store.is_file():
        raise ShardError(f"--labels {uri} is no file")
    for number, line in enumerate(store.read("").decode().splitlines(), start=1):
        words = line.replace(",", " ").split()
        if len(words) == 1:
            raise ShardError(f"--labels {uri}, line {number}: no class in {line!r}")
        if words and words[0] != "ImageId":
            found[_stem(words[0])] = words[1]
    return found


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def no_classes(uri: str, what: str) -> ShardError:
    """The error of a source whose images have no class, with what to do."""
    return ShardError(
        f"{uri} holds {what}. Images that lie flat, as ImageNet's validation set is distributed, "
        "need --labels FILE with lines `image class` (LOC_val_solution.csv of ImageNet is one), or "
        "sort them into one folder per class"
    )


def open_source(uri: str, split: str, rows_per_part: int, naming: Naming) -> Source:
    """List what is at `uri`: a tar, a folder of parquet or a tree of class folders.

    Raises ShardError when nothing usable is there.
    """
    from unite.data.ingest import huggingface, imagefolder, tar

    store = Store.open(uri)
    if store.is_file():
        if not uri.endswith(".tar"):
            raise ShardError(
                f"{uri} is a file but no .tar; name an uncompressed tar, a tree of class folders "
                "or a folder of parquet"
            )
        return tar.open_tar(store, rows_per_part, naming)
    if not store.exists():
        raise ShardError(f"the source {uri} does not exist")
    if any(name.endswith(".parquet") for name in store.list()):
        return huggingface.open_parquet(store, split, rows_per_part, naming)
    return imagefolder.open_folder(store, rows_per_part, naming)
