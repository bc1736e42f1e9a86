"""Several folders as one data set: "shards/qm9::shards/mp20", each with its own manifest.

Their splits are one row space: the row groups of the first folder, then those of the next. The
order of an epoch permutes row groups and shuffles windows of them, so that the folders' rows come
in proportion to their numbers. Files of such a set are named by the number of their folder: "1/a".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from unite.storage import Store

SEPARATOR = "::"


def parts_of(uri: str) -> list[str]:
    """The folders of a data set: one, or several."""
    return uri.split(SEPARATOR)


def each_part(change: Callable[[str], str], uri: str) -> str:
    """A data set whose every folder is changed, such as to its absolute place."""
    return SEPARATOR.join(map(change, parts_of(uri)))


def absolute(folder: str) -> str:
    """Absolute place of a folder."""
    return Store.open(folder).uri


def joined(uris: Sequence[str]) -> str:
    """The data set of these folders."""
    return SEPARATOR.join(uris)


def part_file(part: int, file: str) -> str:
    """Name of a folder's file within a set of several."""
    return f"{part}/{file}"


def place_of(uri: str, file: str) -> tuple[Store, str]:
    """Folder of a data set's file, and the file's name in it."""
    parts = parts_of(uri)
    if len(parts) == 1:
        return Store.open(uri), file
    part, _, name = file.partition("/")
    return Store.open(parts[int(part)]), name
