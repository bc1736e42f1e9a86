"""Files that are in the training set and in the held-out set: its metrics would be of seen rows."""

from __future__ import annotations

from unite.data.names import shown
from unite.data.parquet import read_footer
from unite.data.shards import ShardSet

Sizes = tuple[tuple[int, int], ...]
"""Rows and bytes of each row group of a file."""


def shared_files(train: ShardSet, held_out: ShardSet) -> list[str]:
    """Places of held-out files whose rows are trained on.

    They were prepared from the same files, or have the digest of a training file; where a manifest
    does not say it, its size and its footer (the places of all columns).
    """
    origin = _origin(train)
    if all(origin) and origin == _origin(held_out):
        return [f"{held_out.uri}/{file}" for file in held_out.files]
    known: dict[Sizes, list[str]] = {}
    for file, sizes in _sizes(train).items():
        known.setdefault(sizes, []).append(file)
    return [
        f"{held_out.uri}/{file}"
        for file, sizes in _sizes(held_out).items()
        if any(_same(train, twin, held_out, file) for twin in known.get(sizes, ()))
    ]


def describe_shared(train: ShardSet, held_out: ShardSet) -> str:
    """A warning that names the files of both sets; empty when they share none."""
    shared = shared_files(train, held_out)
    if not shared:
        return ""
    files = len(held_out.files)
    extent = "all" if len(shared) == files else f"{len(shared):,} of {files:,}"
    return (
        f"the held-out set is trained on: {extent} of its files are the training set's "
        f"({shown(shared)}), so what is measured on it says nothing of new data. Name other data "
        "with data.eval, or name files by their split (train-*.parquet, test-*.parquet)"
    )


def _origin(shards: ShardSet) -> tuple[str | None, ...]:
    """Origin of a prepared set: the place, and the digest of its listing."""
    preparation = shards.manifest.preparation if shards.manifest else {}
    return preparation.get("source"), preparation.get("source_digest")


def _sizes(shards: ShardSet) -> dict[str, Sizes]:
    sizes: dict[str, Sizes] = {}
    for group in shards.row_groups:
        if not group.num_rows:
            continue  # files without rows are alike in any two sets
        sizes[group.file] = (*sizes.get(group.file, ()), (group.num_rows, group.bytes))
    return sizes


def _digests(shards: ShardSet) -> dict[str, str]:
    return {shard.file: shard.sha256 for shard in shards.manifest.shards} if shards.manifest else {}


def _same(train: ShardSet, one: str, held_out: ShardSet, other: str) -> bool:
    digests = _digests(train).get(one), _digests(held_out).get(other)
    if all(digests):
        return digests[0] == digests[1]
    return read_footer(train.uri, one).equals(read_footer(held_out.uri, other))
