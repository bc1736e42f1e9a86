"""A preparation as a Ray Data job."""

import io
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from plain_data import changed_shards
from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import begin, plan, run_job
from unite.data.shards import ShardSet
from unite.domains.columns import IMAGES
from unite.drivers import prepare as driver
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
    assert not changed_shards(shards)


def test_error_of_a_task_reaches_the_caller_as_itself(ray_cluster, tree, tmp_path):
    from unite.drivers.prepare import prepare

    chosen = ImagesIngest(source=str(tree), out=str(tmp_path / "out"), size=16)
    planned = plan(chosen)
    for path in tree.rglob("*.png"):
        path.unlink()
    with pytest.raises(StorageError, match="cannot read .*png") as caught:
        prepare(planned)
    assert "UDF" not in str(caught.value)


def test_shards_of_an_earlier_run_say_nothing_of_the_speed(tree, tmp_path, monkeypatch):
    chosen = ImagesIngest(source=str(tree), out=str(tmp_path / "out"), size=16, rows_per_shard=5)
    first, lines = plan(chosen), []
    begin(first)
    for job in first.jobs[:2]:
        run_job(job)

    @contextmanager
    def line(text, total):
        yield lambda text, completed: lines.append(text)

    seconds = iter([0.0, 1.0, 2.0, 10.0, 20.0])
    monkeypatch.setattr(driver, "progress_line", line)
    monkeypatch.setattr(driver, "time", SimpleNamespace(monotonic=lambda: next(seconds)))
    again = plan(chosen)
    list(driver._shown(map(run_job, again.jobs), again))
    assert lines == [
        "1/4 shards  5 images",
        "2/4 shards  10 images",
        "3/4 shards  15 images  0 images/s  ETA 0:06",
        "4/4 shards  18 images  0 images/s  ETA 0:00",
    ]
