"""Finished preparations: their check, and a description of their folder."""

from __future__ import annotations

from unite.data.ingest.prepare import Plan
from unite.data.manifest import SplitManifest, read_manifest
from unite.storage import Store
from unite.words import count


def is_complete(plan: Plan) -> bool:
    """True if the manifest of this very preparation is there, and every shard in its size."""
    manifests, store = read_manifest(plan.store) or {}, plan.store
    for part in plan.splits:
        manifest = manifests.get(part.split)
        if manifest is None or manifest.preparation.get("fingerprint") != part.fingerprint:
            return False
        if not all(
            store.is_file(s.file) and store.size(s.file) == s.bytes for s in manifest.shards
        ):
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
