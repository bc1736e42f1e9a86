"""Finished preparations: their check, and a description of their folder."""

from __future__ import annotations

from unite.data.ingest.prepare import Plan
from unite.data.manifest import read_manifest
from unite.storage import Store
from unite.words import count


def is_complete(plan: Plan) -> bool:
    """True if the manifest of this very preparation is there, and every shard in its size."""
    manifest = (read_manifest(plan.store) or {}).get(plan.config.split)
    if manifest is None or manifest.preparation.get("fingerprint") != plan.fingerprint:
        return False
    store = plan.store
    return all(
        store.is_file(shard.file) and store.size(shard.file) == shard.bytes
        for shard in manifest.shards
    )


def describe_manifest(store: Store) -> str:
    """Description of a prepared folder, a few lines per split."""
    lines = [f"{store} holds"]
    for split, manifest in (read_manifest(store) or {}).items():
        rows = sum(shard.num_rows for shard in manifest.shards)
        size = sum(shard.bytes for shard in manifest.shards) / 2**20
        lines.append(
            f"  {split}: {count(rows, 'image')}, {count(len(manifest.shards), 'shard')}, "
            f"{size:,.1f} MiB"
        )
        lines += [f"    skipped {rows:,}: {why}" for why, rows in manifest.skipped.items()]
    return "\n".join(lines)
