"""A tiny joint run: textbook molecules and crystals in a folder each."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from unite.config.recipes import recipe
from unite.config.serialise import replace as change
from unite.config.validate import validate
from unite.data.manifest import Shard, SplitManifest, write_manifest
from unite.storage import Store


def write_folder(folder, domain: str, splits: dict[str, list[dict[str, bytes]]]) -> str:
    """A prepared folder of one kind."""
    folder.mkdir()
    manifests = {}
    for split, rows in splits.items():
        file = folder / f"{split}-0.parquet"
        pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=6)
        groups = pq.read_metadata(file)
        counts = tuple(groups.row_group(i).num_rows for i in range(groups.num_row_groups))
        size = file.stat().st_size
        shard = Shard(file=file.name, row_groups=counts, bytes=size, sha256=domain + split)
        manifests[split] = SplitManifest(
            shards=(shard,),
            columns=tuple(rows[0]),
            class_names=None,
            skipped={},
            preparation={},
            domain=domain,
        )
    write_manifest(Store.open(folder), manifests)
    return str(folder)


@pytest.fixture
def joint_rows(textbook_molecules, textbook_crystals) -> dict[str, list[dict[str, bytes]]]:
    """Textbook rows of each kind, as shards hold them."""
    molecules = [
        {"numbers": bytes(numbers), "positions": np.array(pos, "<f4").tobytes()}
        for numbers, pos in textbook_molecules.values()
    ]
    names = ("frac", "lengths", "angles")
    crystals = [
        {
            "numbers": bytes(cell["numbers"]),
            **{name: np.array(cell[name], "<f8").tobytes() for name in names},
        }
        for cell in textbook_crystals.values()
    ]
    return {"molecules": molecules, "crystals": crystals}


@pytest.fixture
def joint_data(joint_rows, tmp_path) -> str:
    """Both folders as one data set."""
    return "::".join(
        write_folder(tmp_path / kind, kind, {"train": 4 * some, "eval": some})
        for kind, some in joint_rows.items()
    )


@pytest.fixture
def joint_config(joint_data, tmp_path):
    changes = {
        "name": "joint",
        "storage": str(tmp_path / "runs"),
        "data.train": joint_data,
        "data.max_bad_fraction": 0.0,
        "training.batch_size": 8,
        "training.accumulation": 2,
        "training.epochs": 1.0,
        "model.encoder.depth": 1,
        "model.encoder.width": 32,
        "model.decoder.depth": 1,
        "checkpoint.every_images": 16,
        "evaluation.every_images": 1_000_000,
        "evaluation.num_samples": 2,
        "evaluation.num_images": 8,
        "sampling.num_steps": 2,
    }
    return validate(change(recipe("qm9-mp20-tiny"), changes))
