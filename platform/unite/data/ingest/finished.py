"""Finished preparations: their check, and a description of their folder."""

from __future__ import annotations

from dataclasses import asdict

from unite.config.names import BUILTIN
from unite.config.serialise import json_digest
from unite.data.ingest.kind import Ingest
from unite.data.ingest.prepare import Plan
from unite.data.manifest import SplitManifest, is_whole, read_manifest
from unite.entry import PACKAGE, code_digest
from unite.finished import Record
from unite.storage import Store
from unite.words import count


def record_of(ingest: Ingest) -> Record | None:
    """The record of a preparation whose plan would read all of its source; None for others."""
    if not ingest.reads_all:
        return None
    is_builtin = ingest.source.startswith(BUILTIN)
    followed = {
        "code": code_digest(PACKAGE),
        "kind": type(ingest).__name__,
        "settings": asdict(ingest),
        "source": {} if is_builtin else Store.open(ingest.source).stamps(),
    }
    key = json_digest(followed)
    return Record(folder=Store.open(ingest.out), file=f".finished-{key}.json", key=key)


def is_complete(plan: Plan) -> bool:
    """True if the manifest of this very preparation is there, and every shard in its size."""
    manifests = read_manifest(plan.store) or {}
    for part in plan.splits:
        manifest = manifests.get(part.split)
        if manifest is None or manifest.preparation.get("fingerprint") != part.fingerprint:
            return False
        if not is_whole(plan.store, manifest):
            return False
    return True


def describe_manifest(store: Store) -> str:
    """Description of a prepared folder, a few lines per split."""
    lines = [f"{store} holds"]
    for split, manifest in (read_manifest(store) or {}).items():
        size = sum(shard.bytes for shard in manifest.shards) / 2**20
        lines.append(
            f"  {split}: {_rows(manifest)}, {count(len(manifest.shards), 'shard')}, {size:,.1f} MiB"
        )
        lines += [f"    skipped {rows:,}: {why}" for why, rows in manifest.skipped.items()]
    return "\n".join(lines)


def _rows(manifest: SplitManifest) -> str:
    """Number of rows in words: domains are named for many of their samples."""
    rows = sum(shard.num_rows for shard in manifest.shards)
    return count(rows, manifest.domain.removesuffix("s"), manifest.domain)
