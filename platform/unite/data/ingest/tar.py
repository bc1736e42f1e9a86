"""A tar of class folders, or a tar of one tar per class as ImageNet's training set is distributed.

The archive is scanned once for names and offsets and is never unpacked: shards read their images at
offsets, in parallel. The class of a file is the folder that it lies in, or the name of its inner
tar. Listing reads one header per file, which is slow over a network: copy the tar next to it first.
"""

from __future__ import annotations

import posixpath
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

from unite.data.ingest.classes import Naming, classify, parts_of
from unite.data.ingest.listing import NO_FILE, Archive
from unite.data.ingest.source import Part, Record, Source, shuffled_ranges
from unite.data.manifest import ShardError, content_digest
from unite.data.names import foreign_part
from unite.domains.image_files import IMAGE_SUFFIXES
from unite.storage import Store

REPLACED = "replaced by a later file of its name in the tar"
LEADS_OUT = "path that leads out of the tar"
SPARSE = "sparse file of a tar"


class Place(NamedTuple):
    """The bytes of a file in the archive."""

    offset: int
    size: int


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
                cells = {"image": file.read_at(size, offset), "label": label}
                yield Record(cells=cells, path=path)


def open_tar(store: Store, split: str, rows_per_part: int, naming: Naming) -> Source:
    """List a tar; ShardError when it is compressed, damaged or its images have no class."""
    archive: Archive[Place] = Archive()
    try:
        with store.filesystem.open_input_file(store.path()) as file:
            _scan(file, archive)
    except tarfile.TarError as error:
        why = store.stand_in() or (
            f"cannot be listed as a plain tar ({error}); uncompress it, or copy it again if it was "
            "truncated"
        )
        raise ShardError(f"{store} {why}") from error
    listing = archive.listing()
    found = classify(listing, suffixes=IMAGE_SUFFIXES, split=split, naming=naming, uri=store.uri)
    entries = [
        (path, *listing.files[path], found.labels[name]) for path, name in found.classes.items()
    ]
    parts: list[Part] = [
        TarPart(store.uri, [entries[row] for row in rows])
        for rows in shuffled_ranges(len(entries), rows_per_part)
    ]
    # Folders say the classes, but not what a list of labels or another numbering says.
    members = [(*entry[:3], ("", *parts_of(entry[0]))[-2]) for entry in entries]
    relabelled = naming.labels_file or list(found.labels) != sorted({*found.classes.values()})
    return Source(
        uri=store.uri,
        num_rows=len(entries),
        parts=parts,
        class_names=tuple(found.labels),
        digest=content_digest([members, found.classes, found.labels] if relabelled else members),
        skipped=found.skipped,
        notes=found.notes,
    )


def _scan(file: IO[bytes], archive: Archive[Place], origin: int = 0, inside: str = "") -> None:
    """Add all entries of a tar that begins at `origin`; `inside` is its folder in the outer tar."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for info in tar:
            name = _within("", info.name.lstrip("/"))
            if name is None:
                archive.left_out[f"{inside}entry at {origin + info.offset}"] = LEADS_OUT
            elif name and info.isfile() and _is_tar(inside + name):
                _scan_inner(tar, info, archive, origin, inside + name)
            elif name:
                _add(info, archive, origin, inside, name)


def _is_tar(path: str) -> bool:
    return path.lower().endswith(".tar") and not foreign_part(path)


def _scan_inner(
    tar: tarfile.TarFile, info: tarfile.TarInfo, archive: Archive[Place], origin: int, path: str
) -> None:
    """Add an inner tar as a folder of its name."""
    file, folder = tar.extractfile(info), path[: -len(".tar")]
    assert file is not None
    archive.folders.add(folder)
    try:
        _scan(file, archive, origin + info.offset_data, f"{folder}/")
    except tarfile.TarError as error:
        raise tarfile.ReadError(f"{path} in it: {error}") from error


def _add(
    info: tarfile.TarInfo, archive: Archive[Place], origin: int, inside: str, name: str
) -> None:
    """Add an entry whose path in its own tar is `name`; its links stay within that tar."""
    path = inside + name
    if info.isfile() and not info.issparse():
        if path in archive.files:
            archive.left_out[f"{path} at {archive.files[path].offset}"] = REPLACED
        archive.files[path] = Place(origin + info.offset_data, info.size)
    elif info.isdir():
        archive.folders.add(path)
    elif info.islnk() or info.issym():
        # A hard link names its target from the root of the tar, a symbolic one from its folder.
        folder = posixpath.dirname(name) if info.issym() else ""
        target = _within(folder, info.linkname)
        archive.links[path] = None if target is None else f"{inside}{target}".rstrip("/")
    else:
        archive.left_out[path] = SPARSE if info.issparse() else NO_FILE


def _within(folder: str, name: str) -> str | None:
    """The path of `name` as seen from a folder, empty for the root; None when it leads out."""
    path = posixpath.normpath(posixpath.join(folder, name))
    if path.startswith(("/", "../")) or path == "..":
        return None
    return "" if path == "." else path
