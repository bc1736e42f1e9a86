"""A tree of class folders of image files, as ImageNet is distributed once unpacked.

The class of a file is its folder directly below the root; labels number the sorted class names, as
torchvision's ImageFolder does. A labels file names the classes of images that lie otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.fs as pafs

from unite.data.ingest.source import (
    IMAGE_SUFFIXES,
    NOT_AN_IMAGE,
    Naming,
    Part,
    Record,
    Source,
    no_classes,
    shuffled_ranges,
)
from unite.data.manifest import content_digest
from unite.storage import Store


@dataclass(frozen=True)
class FolderPart:
    """Some files of the tree with their labels."""

    uri: str
    entries: list[tuple[str, int]]

    @property
    def num_rows(self) -> int:
        """Files of the part."""
        return len(self.entries)

    def records(self) -> Iterator[Record]:
        """Read the files one by one."""
        store = Store.open(self.uri)
        for name, label in self.entries:
            yield Record(image=store.read(name), label=label, path=name)


def open_folder(store: Store, rows_per_part: int, naming: Naming) -> Source:
    """List a tree; ShardError when its images have no class."""
    files, folders = _walk(store)
    images = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
    classes = naming.classes({name: name.rpartition("/")[0] for name in images}, store.uri)
    if not classes:
        shards = next((name for name in files if name.endswith(".parquet")), None)
        hint = f"; it holds parquet files: name their folder (one is {shards})" if shards else ""
        raise no_classes(store.uri, f"no class folders with image files{hint}")
    if not naming.labels_file:
        classes = {name: name.split("/")[0] for name in classes}
    # An empty class folder is a class too.
    labels = naming.index([*classes.values(), *([] if naming.labels_file else folders)], store.uri)
    entries = [(name, labels[classes[name]]) for name in sorted(classes)]
    parts: list[Part] = [
        FolderPart(store.uri, [entries[row] for row in rows])
        for rows in shuffled_ranges(len(entries), rows_per_part)
    ]
    others = len(files) - len(entries)
    return Source(
        uri=store.uri,
        num_rows=len(entries),
        parts=parts,
        class_names=tuple(labels),
        digest=content_digest(entries),
        skipped={NOT_AN_IMAGE: others} if others else {},
    )


def _walk(store: Store) -> tuple[list[str], list[str]]:
    """Files of the tree relative to its root, and the folders directly below it; both sorted."""
    base = store.path()
    infos = store.filesystem.get_file_info(pafs.FileSelector(base, recursive=True))
    names = {info.path[len(base) :].lstrip("/"): info.type for info in infos}
    files = sorted(name for name, kind in names.items() if kind == pafs.FileType.File)
    # An object store has no folders of its own: they show in the names of files.
    folders = {name for name, kind in names.items() if kind == pafs.FileType.Directory}
    folders |= {name.rpartition("/")[0] for name in files}
    return files, sorted({name.split("/")[0] for name in folders if name})
