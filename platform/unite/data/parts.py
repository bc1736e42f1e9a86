"""Several folders as one data set: "shards/qm9::shards/mp20", each with its own manifest.

Their splits are one row space: the row groups of the first folder, then those of the next. The
order of an epoch permutes row groups and shuffles windows of them, so that the folders' rows come
in proportion to their numbers. Files of such a set are named by the number of their folder: "1/a".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from unite.data.manifest import MANIFEST, ShardError, read_manifest
from unite.storage import Store

Split = Literal["train", "eval", "test"]
SEPARATOR = "::"


def parts_of(uri: str) -> list[str]:
    """The folders of a data set: one, or several."""
    return str(uri).split(SEPARATOR)


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


def require_domain(store: Store, domain: str, reader: str) -> None:
    """ShardError when the manifest of a folder names another domain than `domain`, in words.

    `reader` stands for what reads it, such as "recipe qm9". A folder without a manifest is judged
    by its columns.
    """
    for manifest in (read_manifest(store) or {}).values():
        if manifest.domain != domain:
            raise ShardError(
                f"{store} holds {manifest.domain}; {reader} reads {domain}. Name another folder"
            )


def require_domains(uri: str, domains: Sequence[str], reader: str) -> None:
    """ShardError unless a data set has a folder of each of `domains`, in that order.

    `reader` as of `require_domain`. Only a manifest tells folders of several domains apart.
    """
    folders = parts_of(uri)
    if len(folders) != len(domains):
        wanted = " and ".join(domains)
        form = joined([f"shards/{domain}" for domain in domains])
        raise ShardError(
            f"{reader} reads {wanted}, a folder of each, but {uri} names {len(folders)}: write it "
            f"as {form}"
        )
    for folder, domain in zip(folders, domains, strict=True):
        store = Store.open(folder)
        if len(folders) > 1 and read_manifest(store) is None:
            raise ShardError(
                f"{store} has no {MANIFEST}, which must say that it holds {domain}: prepare it "
                "with jobs/prepare_data.py"
            )
        require_domain(store, domain, reader)


def measured_split(uri: str) -> Split:
    """`test` where every prepared folder has such a split, else `eval`: what is measured at the end
    of a run is measured on rows that nothing in its training looked at."""
    manifests = [read_manifest(Store.open(folder)) or {} for folder in parts_of(uri)]
    return "test" if all("test" in splits for splits in manifests) else "eval"
