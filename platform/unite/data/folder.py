"""The parquet files of one split in a folder, by the rules of `unite.data.names`.

They lie in the folder itself or, where it holds none, in folders of it that are named for splits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow.fs as pafs

from unite.data.manifest import ShardError
from unite.data.names import FOREIGN_NAME, SPLITS, is_foreign, select_files, shown, splits_said
from unite.storage import StorageError, Store

_SUFFIX = ".parquet"
_NUMBERED = re.compile(r"(.*?)(\d+)-of-(\d+)(.*)")


@dataclass(frozen=True, kw_only=True)
class ParquetFolder:
    """The parquet files of a folder."""

    sizes: dict[str, int]
    """Bytes of each file, by its path in the folder; sorted."""
    foreign: tuple[str, ...]
    """Parquet files with foreign names, which are not in `sizes`."""
    folders: tuple[str, ...]
    """Folders directly below."""

    @classmethod
    def list(cls, store: Store) -> ParquetFolder:
        """List a folder, and those of splits in it if it holds no parquet itself."""
        files, folders = _entries(store, "")
        if all(map(is_foreign, files)):
            files |= {
                path: size
                for folder in folders
                if splits_said(folder) and not is_foreign(folder)
                for path, size in _entries(store, folder)[0].items()
            }
        own = {path: size for path, size in files.items() if not is_foreign(_name(path))}
        return cls(sizes=own, foreign=tuple(sorted(files.keys() - own)), folders=tuple(folders))

    def select(self, split: str, uri: str) -> tuple[dict[str, int], tuple[str, ...]]:
        """Sizes of the files of a split, and notes on files that are not taken.

        ShardError when there is none, or when names do not say which.
        """
        if not self.sizes:
            hint = f" (it holds the folders {shown(self.folders, 8)})" if self.folders else ""
            raise ShardError(
                f"no parquet shards in {uri}{hint}; name the folder that holds the *.parquet "
                "files, or make them with jobs/prepare_data.py"
            )
        names, notes = select_files(self.sizes, split, uri)
        notes += _note_on_numbers(names)
        if foreign := self.foreign_of(split):
            notes += (f"not taken, {FOREIGN_NAME}: {shown(foreign)}",)
        return {name: self.sizes[name] for name in names}, notes

    def foreign_of(self, split: str) -> list[str]:
        """Parquet files with foreign names that do not say another split."""
        said = {path: splits_said(_name(path)) for path in self.foreign}
        return [path for path in self.foreign if not said[path] or said[path] & {*SPLITS[split]}]


def holds_parquet(store: Store) -> bool:
    """True if a folder is one of parquet files."""
    return bool(ParquetFolder.list(store).sizes)


def _entries(store: Store, folder: str) -> tuple[dict[str, int], list[str]]:
    """Parquet files directly in a folder with their sizes, and its folders; both sorted."""
    listed = _local(store.path(folder)) if store.is_local else _remote(store, folder)
    sizes = {
        f"{folder}/{name}" if folder else name: size
        for name, size in sorted(listed.items())
        if size is not None and name.endswith(_SUFFIX)
    }
    return sizes, sorted(name for name, size in listed.items() if size is None)


def _local(place: str) -> dict[str, int | None]:
    """Bytes of each file of a folder, None for folders; links are followed.

    ShardError for a parquet file that is a link to nowhere: its rows would be missed in silence.
    """
    if not os.path.isdir(place):
        return {}
    listed: dict[str, int | None] = {}
    # By hand, because pyarrow leaves out such links and stumbles over names that are not UTF-8.
    # Of os.path, because entries raise for a link that leads to itself.
    try:
        entries = list(os.scandir(place))
    except OSError as error:
        raise StorageError(f"cannot list {place}: {error}") from error
    for entry in entries:
        if os.path.isdir(entry.path):
            listed[entry.name] = None
        elif os.path.exists(entry.path):
            listed[entry.name] = entry.stat().st_size
        elif entry.name.endswith(_SUFFIX) and not is_foreign(entry.name):
            raise ShardError(
                f"{entry.path} is a link that leads nowhere; fetch the file that it stands for, "
                "or remove the link"
            )
    return listed


def _remote(store: Store, folder: str) -> dict[str, int | None]:
    return {
        name: info.size if info.type == pafs.FileType.File else None
        for name, info in store.infos(folder).items()
    }


def _note_on_numbers(names: Iterable[str]) -> tuple[str, ...]:
    """A note when files are numbered `-00000-of-00008` and some of the eight are not here."""
    numbered = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    sets: dict[tuple[str, ...], set[int]] = {}
    for stem, number, count, rest in (match.groups() for match in numbered):
        sets.setdefault((stem, count, rest), set()).add(int(number))
    return tuple(
        f"only {len(here):,} of the {int(count):,} files {stem}*-of-{count}{rest} are here"
        for (stem, count, rest), here in sorted(sets.items())
        if len(here) < int(count)
    )


def _name(path: str) -> str:
    return path.rpartition("/")[2]
