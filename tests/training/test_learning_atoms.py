"""The learning test of molecules: `qm9-tiny`'s settings, 300 steps, real molecules held out."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from trainers import trained
from unite.config.recipes import recipe
from unite.config.serialise import replace
from unite.config.validate import validate

STEPS, BATCH, HELD_OUT = 300, 64, 256


def write_split(table: pa.Table, split: str, num: int, path) -> None:
    rows = table.filter(pc.equal(table["split"].cast(pa.string()), split)).slice(0, num)
    cells = {"numbers": "u1", "positions": "<f4"}
    columns = {
        name: pa.array([np.asarray(cell, kind).tobytes() for cell in rows[name].to_pylist()])
        for name, kind in cells.items()
    }
    pq.write_table(pa.table(columns), path, row_group_size=1024)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_three_hundred_steps_learn_types_and_positions(shared_dir, tmp_path):
    source = shared_dir / "data" / "qm9_dft" / "qm9_dft_40k.parquet"
    if not source.exists():
        pytest.skip(f"needs {source}")
    table = pq.read_table(source)
    train = STEPS * BATCH
    write_split(table, "train", train, tmp_path / "train-0.parquet")
    write_split(table, "test", HELD_OUT, tmp_path / "test-0.parquet")
    changes = {
        "name": "learning",
        "storage": str(tmp_path / "runs"),
        "data.train": str(tmp_path),
        "training.epochs": 1.0,
        "flow.warmup_fraction": 0.3,
        "optim.ema_decay": 0.97,
        "evaluation.every_images": train,
        "evaluation.num_images": HELD_OUT,
        "evaluation.num_samples": 1,
        "checkpoint.every_images": train,
    }
    found = trained(validate(replace(recipe("qm9-tiny"), changes))).metrics
    assert found["eval/types_pct"] >= 99
    assert found["eval/rmsd_all"] <= 0.15
