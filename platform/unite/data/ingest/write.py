"""Encode images and write shards: parquet of image, label and path in small row groups."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from unite.data.ingest.source import Part, Record
from unite.data.manifest import Shard
from unite.domains.image_files import open_image
from unite.domains.transforms import decode_image
from unite.storage import Store

SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64()), ("path", pa.string())])
# Images are compressed already, and statistics would repeat whole images in the footer.
PARQUET: dict[str, Any] = {
    "compression": {"image": "NONE", "label": "ZSTD", "path": "ZSTD"},
    "use_dictionary": False,
    "write_statistics": ["label"],
}
SUBSAMPLING = "444"
"""Chroma is kept whole: on ImageNet crops of 256 px, quality 95 gives 41.2 dB at 39 KiB, and with
the usual 4:2:0 only 38.4 dB at 30 KiB (40.7 dB at 42 KiB for quality 98)."""
WEBP: dict[str, Any] = {"lossless": True, "exact": True, "quality": 20, "method": 2}
"""Options of WebP: 85 KiB for such a crop in 40 ms. More effort saves 3% in 10 times as long; PNG
has 114 KiB."""
LARGEST_WEBP = 16_383
"""Largest side in pixels that the format has."""

Format = Literal["jpeg", "webp", "original"]
"""JPEG of the crop, lossless WebP of the crop, or the file's own bytes, cropped at each reading."""


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Format of stored images."""

    size: int
    """Side of the square crop in pixels."""
    format: Format
    quality: int
    """JPEG quality, 1..100."""

    def encode(self, data: bytes) -> bytes:
        """The bytes to store; ValueError when the image cannot be decoded.

        The image is decoded at full size, never by the scaled decoding of JPEG, so that the crop
        is that of METHOD 3. An image that is `size` pixels square already keeps its bytes.
        """
        pixels = decode_image(data, self.size, 3)
        if self.format == "original" or _image_size(data) == (self.size, self.size):
            return data
        return self.store(pixels)

    def store(self, pixels_HWC: np.ndarray) -> bytes:
        """The bytes of a crop, uint8 RGB (H, W, 3), in JPEG or lossless WebP."""
        if self.format == "webp":
            buffer = io.BytesIO()
            Image.fromarray(pixels_HWC).save(buffer, "WEBP", **WEBP)
            return buffer.getvalue()
        return simplejpeg.encode_jpeg(pixels_HWC, self.quality, "RGB", SUBSAMPLING)


def encode_part(part: Part, encoding: Encoding, skipped: Counter[str]) -> Iterator[dict]:
    """Rows of a part to store, as `encode_records` makes them."""
    return encode_records(part.records(), encoding, skipped)


def encode_records(
    records: Iterable[Record], encoding: Encoding, skipped: Counter[str]
) -> Iterator[dict]:
    """Rows to store; rows that cannot be used are counted in `skipped` per reason."""
    for record in records:
        try:
            yield _row(record, encoding)
        except ValueError as error:
            # What follows a colon are details of the one file.
            skipped[str(error).partition(":")[0]] += 1


def write_shard(
    store: Store,
    name: str,
    rows: Iterable[dict],
    *,
    rows_per_group: int,
    skipped: Counter[str] | None = None,
) -> Shard:
    """Write rows of SCHEMA as one shard, atomically; `skipped` is read once they are exhausted."""
    buffer, groups, rest = io.BytesIO(), [], iter(rows)
    with pq.ParquetWriter(buffer, SCHEMA, **PARQUET) as writer:
        while group := list(islice(rest, rows_per_group)):
            table = pa.Table.from_pylist(group, schema=SCHEMA)
            writer.write_table(table, row_group_size=rows_per_group)
            groups.append(len(group))
    data = buffer.getvalue()
    store.write(name, data)
    return Shard(
        file=name,
        row_groups=tuple(groups),
        bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        skipped=dict(skipped or {}),
    )


def _row(record: Record, encoding: Encoding) -> dict:
    if record.image is None:
        raise ValueError("no image bytes")
    if record.label is None:
        raise ValueError("no label in the range of the classes")
    return {
        "image": encoding.encode(record.image),
        "label": record.label,
        "path": record.path,
    }


def _image_size(data: bytes) -> tuple[int, int]:
    with open_image(data) as image:
        return image.size
