"""List the files of a tree or an archive under one rule for hidden names and links.

Links to files and folders are followed; those that lead nowhere, or to a folder that they lie in,
are counted. Foreign names (`unite.data.names`) are counted and not entered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import pyarrow.fs as pafs

from unite.data.names import FOREIGN_NAME, foreign_part
from unite.storage import StorageError, Store

T = TypeVar("T")

LINK_TO_NOWHERE = "link that leads nowhere"
CIRCULAR_LINK = "link to a folder that it lies in"
NO_FILE = "neither file nor folder"
NAME_NOT_UTF8 = "name that is not UTF-8"
MOST_LINKS = 40
"""Largest number of links on the way to one file, as in Linux."""


@dataclass
class Listing(Generic[T]):
    """Files by path, each with the place of its bytes; folders; left-out entries with reasons."""

    files: dict[str, T] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)
    """All folders but the root."""
    left_out: dict[str, str] = field(default_factory=dict)
    """Path as far as its faulty part -> reason."""

    def takes(self, path: str) -> bool:
        """True if all names of a path can be taken; else the path is left out."""
        if foreign := foreign_part(path):
            self.left_out[foreign] = FOREIGN_NAME
        elif not _is_utf8(path):
            bad = next(part for part in _way_to(path) if not _is_utf8(part))
            self.left_out[bad] = NAME_NOT_UTF8
        else:
            return True
        return False

    def empty_folders(self) -> set[str]:
        """Folders in which nothing lies but foreign names."""
        parents = {path.rpartition("/")[0] for path in (*self.files, *self.folders)}
        return self.folders - parents


def list_tree(store: Store) -> Listing[None]:
    """The files below a local folder or an s3:// URI; StorageError for one that cannot be read."""
    listing: Listing[None] = Listing()
    if store.is_local:
        _walk(store.path(), "", frozenset(), listing)
        return listing
    for path, info in store.infos(recursive=True).items():
        if listing.takes(path) and info.type == pafs.FileType.File:
            listing.files[path] = None
            # An object store has no folders of its own: they show in the names of files.
            listing.folders.update(parents_of(path))
    return listing


def parents_of(path: str) -> Iterator[str]:
    """The folders on the way to a path, the nearest first, without the root."""
    while path := path.rpartition("/")[0]:
        yield path


def _walk(base: str, folder: str, above: frozenset[tuple[int, int]], listing: Listing) -> None:
    """List a folder; `above` has device and inode of each folder on the way, where links end."""
    place = os.path.join(base, folder)
    try:
        entries, info = sorted(os.scandir(place), key=lambda entry: entry.name), os.stat(place)
    except OSError as error:
        raise StorageError(f"cannot list {place}: {error}") from error
    above |= {(info.st_dev, info.st_ino)}
    for entry in entries:
        path = f"{folder}/{entry.name}" if folder else entry.name
        if not listing.takes(path):
            continue
        kind = _kind(entry)
        if kind == "folder" and _identity(entry) in above:
            listing.left_out[path] = CIRCULAR_LINK
        elif kind == "folder":
            listing.folders.add(path)
            _walk(base, path, above, listing)
        elif kind == "file":
            listing.files[path] = None
        else:
            listing.left_out[path] = kind


def _kind(entry: os.DirEntry[str]) -> str:
    """Kind of an entry: `file`, `folder`, or the reason why it is neither."""
    try:
        if entry.is_file():
            return "file"
        if entry.is_dir():
            return "folder"
        entry.stat()
    except OSError:
        return LINK_TO_NOWHERE
    return NO_FILE


def _identity(entry: os.DirEntry[str]) -> tuple[int, int] | None:
    """Device and inode of the folder that a link leads to; None for a folder itself."""
    if not entry.is_symlink():
        return None
    info = entry.stat()
    return info.st_dev, info.st_ino


class Archive(Generic[T]):
    """The entries of an archive, whose links are followed only within it."""

    def __init__(self) -> None:
        self.files: dict[str, T] = {}
        self.folders: set[str] = set()
        self.links: dict[str, str | None] = {}
        """Path -> the path that it stands for; None = outside the archive."""
        self.left_out: dict[str, str] = {}
        """Path of an entry that can never be taken -> reason."""

    def listing(self) -> Listing[T]:
        """Listing of the archive, as if it had been unpacked."""
        for path in (*self.files, *self.links, *self.folders):
            self.folders.update(parents_of(path))
        listing: Listing[T] = Listing(left_out=dict(self.left_out))
        if self.links:
            self._walk("", "", frozenset([""]), self._children(), listing)
            return listing
        listing.folders = {path for path in self.folders if listing.takes(path)}
        listing.files = {path: at for path, at in self.files.items() if listing.takes(path)}
        return listing

    def _children(self) -> dict[str, list[str]]:
        children: dict[str, list[str]] = {}
        for path in sorted({*self.files, *self.links, *self.folders}):
            folder, _, name = path.rpartition("/")
            children.setdefault(folder, []).append(name)
        return children

    def _walk(
        self,
        shown: str,
        real: str,
        above: frozenset[str],
        children: dict[str, list[str]],
        listing: Listing[T],
    ) -> None:
        """List the folder `real` under the path `shown`; `above` are the folders on the way."""
        for name in children.get(real, ()):
            path = f"{shown}/{name}" if shown else name
            if not listing.takes(path):
                continue
            there = self._resolve(f"{real}/{name}" if real else name)
            if there in self.files:
                listing.files[path] = self.files[there]
            elif there in above:
                listing.left_out[path] = CIRCULAR_LINK
            elif there not in self.folders:
                listing.left_out[path] = LINK_TO_NOWHERE
            else:
                listing.folders.add(path)
                self._walk(path, there, above | {there}, children, listing)

    def _resolve(self, path: str) -> str | None:
        """The path that is reached when all links on the way are followed; None for nowhere."""
        for _ in range(MOST_LINKS):
            link = next((part for part in _way_to(path) if part in self.links), None)
            if link is None:
                return path
            target = self.links[link]
            if target is None:
                return None
            path = f"{target}{path[len(link) :]}".lstrip("/")
        return None


def _way_to(path: str) -> list[str]:
    """The folders on the way to a path, the farthest first, and the path."""
    return [*reversed([*parents_of(path)]), path]


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
