"""A tar of class folders, or a tar of one tar per class as ImageNet's training set is distributed.

The archive is scanned once for names and offsets and is never unpacked: shards read their images at
offsets, in parallel. The class of a file is the folder that it lies in, or the name of its inner
tar. Listing reads one header per file, which is slow over a network: copy the tar next to it first.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO, NamedTuple

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
from unite.data.manifest import ShardError, content_digest
from unite.storage import Store


class Member(NamedTuple):
    """A file of the archive: its place in bytes and its class."""

    path: str
    offset: int
    size: int
    folder: str


@dataclass(frozen=True)
class TarPart:
    """Some files of the archive with their labels."""

    uri: str
    entries: list[tuple[str, int, int, int]]
    """Path, offset and size in bytes, label."""

    @property
    def num_rows(self) -> int:
        """Files of the part."""
        return len(self.entries)

    def records(self) -> Iterator[Record]:
        """Read the files at their offsets."""
        store = Store.open(self.uri)
        with store.filesystem.open_input_file(store.path()) as file:
            for path, offset, size, label in self.entries:
                yield Record(image=file.read_at(size, offset), label=label, path=path)


def open_tar(store: Store, rows_per_part: int, naming: Naming) -> Source:
    """List a tar; ShardError when it is compressed, damaged or its images have no class."""
    try:
        with store.filesystem.open_input_file(store.path()) as file:
            members = list(_members(file))
    except tarfile.TarError as error:
        raise ShardError(
            f"{store} cannot be listed as a plain tar ({error}); uncompress it, or copy it again "
            "if it was truncated"
        ) from error
    found = {m.path: m for m in members if m.path.lower().endswith(IMAGE_SUFFIXES)}
    classes = naming.classes({path: m.folder for path, m in found.items()}, store.uri)
    if not classes:
        raise no_classes(store.uri, "no image files in class folders or inner tars")
    images = sorted(found[path] for path in classes)
    labels = naming.index(classes.values(), store.uri)
    parts: list[Part] = [
        TarPart(store.uri, [_entry(images[row], labels[classes[images[row].path]]) for row in rows])
        for rows in shuffled_ranges(len(images), rows_per_part)
    ]
    relabelled = naming.labels_file or list(labels) != sorted(set(classes.values()))
    others = len(members) - len(images)
    return Source(
        uri=store.uri,
        num_rows=len(images),
        parts=parts,
        class_names=tuple(labels),
        # Folders are part of the members; what a labels file or another numbering says is not.
        digest=content_digest([images, classes, labels] if relabelled else images),
        skipped={NOT_AN_IMAGE: others} if others else {},
    )


def _entry(member: Member, label: int) -> tuple[str, int, int, int]:
    return member.path, member.offset, member.size, label


def _members(file: IO[bytes], origin: int = 0, inside: str = "") -> Iterator[Member]:
    """All files, those of inner tars included; `inside` names the inner tar that is listed."""
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            path = PurePosixPath(info.name)
            if info.isfile() and path.suffix == ".tar":
                inner = archive.extractfile(info)
                assert inner is not None
                yield from _members(inner, origin + info.offset_data, path.stem)
            elif info.isfile():
                folder = path.parent.name or inside
                name = f"{inside}/{path}" if inside else str(path)
                yield Member(name, origin + info.offset_data, info.size, folder)
