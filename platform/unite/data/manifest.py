"""`manifest.json`: the content of a prepared data folder, by split.

Schema version 1: {"schema_version": 1, "splits": {"train": {...}, "eval": {...}}}. A split lists
its shards (file, rows of each row group, bytes, SHA-256), its domain, columns and class names, the
source rows that were skipped per reason, and the settings of its preparation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from unite.storage import Store

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
"""Folder of records of finished shards; it is there while a preparation runs or was interrupted."""


class ShardError(ValueError):
    """A data set cannot be used as it is; the message names the file and the fix."""


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A parquet file, from the manifest or from its footer (then without a digest)."""

    file: str
    row_groups: tuple[int, ...]
    """Rows of each row group."""
    bytes: int
    sha256: str = ""
    skipped: dict[str, int] = field(default_factory=dict)
    """Source rows that were left out of this shard, per reason."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """Places of the first of them in the source, per reason."""

    @property
    def num_rows(self) -> int:
        """Rows of the file."""
        return sum(self.row_groups)


@dataclass(frozen=True, kw_only=True)
class SplitManifest:
    """Content of one split in `manifest.json`."""

    shards: tuple[Shard, ...]
    columns: tuple[str, ...]
    class_names: tuple[str, ...] | None
    skipped: dict[str, int]
    """Source rows that were left out, per reason, of all shards and while listing the source."""
    preparation: dict[str, Any]
    """Settings of the preparation, such as source, size in pixels, encoding, quality."""
    domain: str = "images"
    """Name of the domain whose samples the rows are; a manifest that names none is of images."""

    @property
    def digest(self) -> str:
        """SHA-256 of the content (shards, classes, columns), without its origin."""
        shards = [[s.file, s.row_groups, s.sha256] for s in self.shards]
        return content_digest([SCHEMA_VERSION, shards, self.columns, self.class_names])


def encoding_name(preparation: Mapping[str, Any]) -> str:
    """Format of a split's rows: jpeg-95, webp-lossless, png, original bytes, ...; else unknown.

    Images that had the size already kept their bytes, whatever the format.
    """
    words = str(preparation.get("encoding", "unknown")).partition(",")[0]
    if words == "jpeg":
        return f"jpeg-{preparation.get('quality', '?')}"
    return "webp-lossless" if words == "webp lossless" else words


def read_manifest(store: Store) -> dict[str, SplitManifest] | None:
    """The manifest by split, None when the folder has none; ShardError on another version."""
    if not store.is_file(MANIFEST):
        return None
    value = store.read_json(MANIFEST, {"schema_version": int, "splits": dict}, ShardError)
    version = value["schema_version"]
    if version != SCHEMA_VERSION:
        raise ShardError(
            f"{store}/{MANIFEST} has schema version {version!r}, this code reads version "
            f"{SCHEMA_VERSION}; prepare the data again with jobs/prepare_data.py"
        )
    try:
        return {split: _parse_split(section) for split, section in value["splits"].items()}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ShardError(
            f"{store}/{MANIFEST} is damaged ({type(error).__name__}: {error}); copy it again, or "
            "prepare the data again with jobs/prepare_data.py"
        ) from error


def write_manifest(store: Store, splits: dict[str, SplitManifest]) -> None:
    """Write the manifest of all splits; a reader sees the old one or the new one."""
    sections = {split: asdict(manifest) for split, manifest in splits.items()}
    store.write_json(MANIFEST, {"schema_version": SCHEMA_VERSION, "splits": sections})


def marker(split: str) -> str:
    """File that says that a preparation of a split is running or was interrupted."""
    return f"{UNFINISHED}/{split}.json"


def is_whole(store: Store, manifest: SplitManifest) -> bool:
    """True if all shards of a split lie in the folder, in their size."""
    there = store.infos()
    return all(s.file in there and there[s.file].size == s.bytes for s in manifest.shards)


def parse_shard(value: dict[str, Any]) -> Shard:
    """A shard from its JSON form; ValueError for a file outside of the manifest's folder."""
    if value["file"].startswith("/") or ".." in value["file"].split("/"):
        raise ValueError(f"the shard {value['file']!r} leads out of its folder")
    return Shard(**{**value, "row_groups": tuple(value["row_groups"])})


def _parse_split(section: dict[str, Any]) -> SplitManifest:
    names = section["class_names"]
    return SplitManifest(
        shards=tuple(parse_shard(shard) for shard in section["shards"]),
        columns=tuple(section["columns"]),
        class_names=None if names is None else tuple(names),
        skipped=section["skipped"],
        preparation=section["preparation"],
        domain=section.get("domain", SplitManifest.domain),
    )


def content_digest(value: Any) -> str:
    """SHA-256 of a JSON value, hex."""
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()
