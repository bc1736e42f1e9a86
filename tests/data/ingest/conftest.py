"""Small pictures, and preparations of them in this process."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.prepare import begin, finish, plan, run_job
from unite.data.shards import ShardSet


@pytest.fixture(scope="session")
def picture() -> Callable[[int], bytes]:
    """The bytes of a JPEG that is told from the others by its seed."""

    def make(seed: int) -> bytes:
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG")
        return buffer.getvalue()

    return make


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., ShardSet]:
    """Prepares a source with its bytes kept; each call has a folder of its own unless given one."""
    numbers = iter(range(100))

    def run(source: Path, **changes) -> ShardSet:
        out = str(tmp_path / f"out-{next(numbers)}")
        chosen = ImagesIngest(**{"source": str(source), "out": out, "original": True, **changes})
        planned = plan(chosen)
        begin(planned)
        finish(planned, [run_job(job) for job in planned.jobs])
        return ShardSet.open(chosen.out, chosen.split, ("image", "label", "path"))

    return run


@pytest.fixture
def rows_of() -> Callable[[ShardSet], list[dict]]:
    """All rows of a set."""

    def read(shards: ShardSet) -> list[dict]:
        tables = [shards.read(group) for group in range(len(shards.row_groups))]
        return pa.concat_tables(tables).to_pylist()

    return read
