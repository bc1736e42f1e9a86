"""A preparation as a Ray Data job."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import plan
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.storage import StorageError

pytestmark = pytest.mark.ray


@pytest.fixture
def tree(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        for index in range(9):
            buffer = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (20, 24, 3), dtype=np.uint8)).save(buffer, "PNG")
            (tmp_path / "tree" / name / f"{index}.png").write_bytes(buffer.getvalue())
    return tmp_path / "tree"


def test_job_writes_all_shards_and_repairs_them(ray_cluster, tree, tmp_path):
    from unite.drivers.prepare import prepare

    chosen = ImagesIngest(source=str(tree), out=str(tmp_path / "out"), size=16, rows_per_shard=5)
    manifests = prepare(plan(chosen), num_cpus=2)
    shards = ShardSet.open(chosen.out, "train", IMAGES)
    assert (shards.num_rows, len(shards.files)) == (18, 4)
    assert {"train": shards.manifest} == manifests
    (tmp_path / "out" / shards.files[0]).unlink()
    assert prepare(plan(chosen))["train"].digest == manifests["train"].digest
    shards.verify()


def test_error_of_a_task_reaches_the_caller_as_itself(ray_cluster, tree, tmp_path):
    from unite.drivers.prepare import prepare

    chosen = ImagesIngest(source=str(tree), out=str(tmp_path / "out"), size=16)
    planned = plan(chosen)
    for path in tree.rglob("*.png"):
        path.unlink()
    with pytest.raises(StorageError, match="cannot read .*png") as caught:
        prepare(planned)
    assert "UDF" not in str(caught.value)
