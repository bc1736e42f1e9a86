"""What a preparation tries before it starts: some shards, or in a dry run every one."""

import io

import numpy as np
import pytest
from PIL import Image

from unite.data.ingest.images import ImagesIngest
from unite.data.ingest.source import Record
from unite.data.ingest.trial import FEW_PARTS, try_parts
from unite.data.manifest import ShardError

INGEST = ImagesIngest(source="tree", out="out", size=8)


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((16, 16, 3), 9, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


class Rows:
    """A part of these cells; counts the rows that are read."""

    def __init__(self, *cells: bytes) -> None:
        self.cells, self.read = cells, 0

    @property
    def num_rows(self) -> int:
        return len(self.cells)

    def records(self):
        for number, cell in enumerate(self.cells):
            self.read += 1
            yield Record(cells={"image": cell, "label": 0}, path=f"a/{number}.png")


def test_every_part_is_tried_in_a_dry_run() -> None:
    parts = [Rows(*[png()] * 5) for _ in range(40)]
    assert try_parts("tree", parts, INGEST, every=True).num_parts == 40
    assert [part.read for part in parts] == [1] * 40
    few = try_parts("tree", parts, INGEST, every=False)
    assert few.num_parts == FEW_PARTS and len(few.sizes) == 4 * FEW_PARTS


def test_rows_that_will_be_skipped_are_said() -> None:
    parts = [Rows(png(), png()), Rows(b"broken", b"", png())]
    trial = try_parts("tree", parts, INGEST, every=True)
    assert trial.lines() == [
        "2 of the first 5 rows of 2 shards cannot be used: not a readable image"
    ]
    assert len(set(trial.sizes)) == 1 and trial.bytes_per_row == trial.sizes[0]


def test_a_later_part_without_images_is_an_error() -> None:
    parts = [*[Rows(png())] * 20, Rows(*[b"broken"] * 100)]
    try_parts("tree", parts[:-1], INGEST, every=True)
    with pytest.raises(ShardError, match=r"tree: none of 8 rows from a/0.png on can be used \(8 x"):
        try_parts("tree", parts, INGEST, every=True)
    assert parts[-1].read == 8
