"""Images: trees, tars and parquet become crops in JPEG or WebP, or the files' own bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import simplejpeg
import tyro
from PIL import Image

from unite.config.effects import refuse_changed
from unite.config.names import BUILTIN
from unite.data.folder import holds_parquet
from unite.data.ingest import huggingface, imagefolder, tar
from unite.data.ingest.builtin import BUILTINS
from unite.data.ingest.classes import Naming
from unite.data.ingest.kind import Ingest
from unite.data.ingest.source import Record, Source
from unite.data.manifest import ShardError, marker, read_manifest
from unite.domains.image_files import open_image
from unite.domains.transforms import decode_image
from unite.storage import Store

SCHEMA = pa.schema([("image", pa.binary()), ("label", pa.int64()), ("path", pa.string())])
# Images are compressed already, and statistics would repeat whole images in the footer.
PARQUET: Mapping[str, Any] = {
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


@dataclass(frozen=True, kw_only=True)
class ImagesIngest(Ingest):
    """Prepare images for training."""

    source: Annotated[str, tyro.conf.Positional]
    """Tree of class folders, .tar, folder of parquet, or builtin:digits. Of folders or files that
    are named for splits (train, val, test, in any place of the name) those of --split are taken.
    What is hidden or left by a system (.DS_Store, __MACOSX) is counted, not read."""
    split: Literal["train", "eval"] = "train"
    """Use of the shards; it also selects the split of a source that holds several."""
    labels: str = ""
    """File of lines `image, class` for images that lie flat, as ImageNet's validation set does as
    distributed (its LOC_val_solution.csv can be named as it is): CSV by comma, tab, semicolon or
    space, with or without a head, in UTF-8 or UTF-16; local path or s3:// URI."""
    size: int = 256
    """Side of the square images in pixels (centre crop as in ADM)."""
    encoding: Literal["auto", Format] = "auto"
    """jpeg: small, 41 dB. webp: lossless, 2.2 times as large. original: every file's own bytes,
    cropped at each reading, slower. auto: jpeg to train on, webp to measure on. Images that have
    the size already always keep their bytes."""
    quality: int = 95
    """JPEG quality, 1..100."""
    original: bool = False
    """Alias of --encoding original."""

    domain: ClassVar[str] = "images"
    noun: ClassVar[str] = "image"
    schema: ClassVar[pa.Schema] = SCHEMA
    parquet: ClassVar[Mapping[str, Any]] = PARQUET

    @property
    def stored_as(self) -> Encoding:
        """Encoding of each image."""
        automatic: Format = "jpeg" if self.split == "train" else "webp"
        chosen = automatic if self.encoding == "auto" else self.encoding
        return Encoding(
            size=self.size, format="original" if self.original else chosen, quality=self.quality
        )

    def check(self) -> None:
        """ValueError for settings out of range, and for those that exclude each other."""
        stored = self.stored_as
        if self.original and self.encoding not in ("auto", "original"):
            raise ValueError(f"--original and --encoding {self.encoding} exclude each other")
        if stored.format != "jpeg":
            where = f"on split '{self.split}', stored as {stored.format}"
            refuse_changed(self, ("quality",), f"{where} (it acts with --encoding jpeg)")
        if stored.format == "webp" and self.size > LARGEST_WEBP:
            raise ValueError(f"--size {self.size}: WebP has at most {LARGEST_WEBP} pixels a side")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality = {self.quality} must lie in 1..100")
        if self.size < 1:
            raise ValueError(f"size = {self.size} must be at least 1")
        super().check()

    def sources(self, out: Store) -> dict[str, Source]:
        """The one split; a held-out set takes the classes of the training set in `out`."""
        train = (read_manifest(out) or {}).get("train") if self.split == "eval" else None
        if self.split == "eval" and train is None and out.is_file(marker("train")):
            raise ShardError(
                f"the preparation of split 'train' in {out} is running or was interrupted, and "
                "held-out images take its classes: finish it first, by the same command"
            )
        naming = Naming(
            labels_file=self.labels, class_names=train.class_names if train is not None else None
        )
        return {self.split: open_source(self.source, self.split, self.rows_per_shard, naming)}

    def encode(self, record: Record) -> dict[str, Any]:
        """The row of an image; ValueError for one that cannot be read or has no label."""
        if record.cells["image"] is None:
            raise ValueError("no image bytes")
        if record.cells["label"] is None:
            raise ValueError("no label in the range of the classes")
        return {
            "image": self.stored_as.encode(record.cells["image"]),
            "label": record.cells["label"],
            "path": record.path,
        }

    def settings(self) -> dict[str, Any]:
        """JPEG and original bytes as they were written down before there was --encoding, so that
        such folders go on."""
        names = ("quality", "rows_per_group", "rows_per_shard", "size", "split")
        stored = self.stored_as.format
        settings = {name: getattr(self, name) for name in names} | {
            "original": stored == "original"
        }
        settings = dict(sorted(settings.items()))
        return settings | ({"encoding": "webp"} if stored == "webp" else {})

    def describe(self) -> dict[str, Any]:
        """Encoding, crop and size."""
        encoding = self.stored_as
        if encoding.format == "original":
            return {"encoding": "original bytes"}
        kind = "webp lossless" if encoding.format == "webp" else "jpeg"
        jpeg = {"quality": encoding.quality, "subsampling": SUBSAMPLING}
        return {
            "encoding": f"{kind}, except images that had the size already",
            "crop": "ADM centre crop",
            "size": encoding.size,
            **(jpeg if encoding.format == "jpeg" else {}),
        }

    def hint(self, split: str) -> str:
        """The old default of held-out sets."""
        older = " (before there was --encoding it was --encoding jpeg)"
        return older if split == "eval" else ""


def open_source(uri: str, split: str, rows_per_part: int, naming: Naming) -> Source:
    """List the source at `uri`: a tar, a folder of parquet or a tree of class folders.

    Raises ShardError when nothing usable is there.
    """
    store = Store.open(uri)
    if store.is_file():
        if not uri.lower().endswith(".tar"):
            raise ShardError(
                f"{uri} is a file but no .tar; name an uncompressed tar, a tree of class folders "
                "or a folder of parquet"
            )
        return tar.open_tar(store, split, rows_per_part, naming)
    if uri.startswith(BUILTIN):
        raise ShardError(f"{uri} is unknown; there are {', '.join(BUILTINS)}")
    if not store.exists():
        raise ShardError(f"the source {uri} does not exist")
    if holds_parquet(store):
        return huggingface.open_parquet(store, split, rows_per_part, naming)
    return imagefolder.open_folder(store, split, rows_per_part, naming)


def _image_size(data: bytes) -> tuple[int, int]:
    with open_image(data) as image:
        return image.size
