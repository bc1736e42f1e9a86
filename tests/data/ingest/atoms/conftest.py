"""Preparations of atoms in this process, and their rows."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from unite.data.ingest.kind import Ingest
from unite.data.ingest.prepare import begin, finish, plan, run_job
from unite.data.manifest import SplitManifest
from unite.data.parquet import read_row_group
from unite.storage import Store


@pytest.fixture
def prepare() -> Callable[[Ingest], dict[str, SplitManifest]]:
    """The manifests of a preparation."""

    def run(ingest: Ingest) -> dict[str, SplitManifest]:
        planned = plan(ingest)
        begin(planned)
        return finish(planned, [run_job(job) for job in planned.jobs])

    return run


@pytest.fixture
def rows_of() -> Callable[..., dict[str, dict[str, Any]]]:
    """Stored rows of splits by id, their bytes as arrays."""

    def read(folder, manifests: dict[str, SplitManifest]) -> dict[str, dict[str, Any]]:
        found = {}
        for split, manifest in manifests.items():
            for shard in manifest.shards:
                for group in range(len(shard.row_groups)):
                    names = manifest.columns
                    table = read_row_group(Store.open(folder).uri, shard.file, group, names)
                    for row in table.to_pylist():
                        found[row["id"]] = {"split": split, **unpacked(row)}
        return found

    return read


def unpacked(row: dict[str, Any]) -> dict[str, Any]:
    kinds = {"numbers": "u1", "positions": "<f4"}
    return {
        name: np.frombuffer(cell, kinds.get(name, "<f8")) if isinstance(cell, bytes) else cell
        for name, cell in row.items()
    }
