"""scikit-learn's bundled handwritten digits as shards: 1,500 to train on, 297 held out.

Real scans, 8 x 8 pixels of 17 grey levels, 10 classes. Nothing is downloaded. They are stored as
grey PNG, losslessly: level v of 0..16 becomes round(v * 255 / 16).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from unite.data.ingest.images import PARQUET, SCHEMA
from unite.data.ingest.prepare import require_empty, require_same
from unite.data.ingest.write import write_shard
from unite.data.manifest import SplitManifest, is_whole, read_manifest, write_manifest
from unite.data.names import shard_name
from unite.storage import Store

BUILTIN_DIGITS = "builtin:digits"
"""The name of this data set where a folder is asked for."""
NUM_TRAIN = 1500
NUM_EVAL = 297
ROWS_PER_GROUP = 256
FILES = {split: shard_name(split, 0, 1) for split in ("train", "eval")}
"""Split -> its one shard."""
_SEED = 0


def prepare_digits(store: Store) -> bool:
    """Write both splits and the manifest; False when the folder has them already.

    ShardError when it holds another data set.
    """
    there = read_manifest(store) or {}
    for split, manifest in there.items():
        require_same(store, split, manifest.preparation.get("source"), BUILTIN_DIGITS)
    if there.keys() >= FILES.keys() and all(is_whole(store, each) for each in there.values()):
        return False
    for split in FILES:
        require_empty(store, split, own=FILES.values())
    images, labels = load_digits()
    train, held_out = _split(labels)
    write_manifest(
        store,
        {
            "train": _write_split(store, "train", images, labels, train),
            "eval": _write_split(store, "eval", images, labels, held_out),
        },
    )
    return True


def load_digits() -> tuple[np.ndarray, np.ndarray]:
    """All digits: uint8 (1797, 8, 8) and labels int64 (1797,)."""
    # Imported here: it takes a second, which users of other data need not spend.
    from sklearn.datasets import load_digits as bundled

    digits: Any = bundled()
    return np.round(digits.images * 255 / 16).astype(np.uint8), digits.target.astype(np.int64)


def _split(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of a fixed split with equal shares of each class in both parts."""
    from sklearn.model_selection import train_test_split

    rows = np.arange(len(labels))
    parts: Any = train_test_split(
        rows, train_size=NUM_TRAIN, test_size=NUM_EVAL, stratify=labels, random_state=_SEED
    )
    return parts[0], parts[1]


def _write_split(
    store: Store, split: str, images: np.ndarray, labels: np.ndarray, rows: np.ndarray
) -> SplitManifest:
    cells = (
        {"image": _png(images[row]), "label": int(labels[row]), "path": f"digits/{row}"}
        for row in rows
    )
    shard = write_shard(
        store,
        FILES[split],
        cells,
        schema=SCHEMA,
        parquet=PARQUET,
        rows_per_group=ROWS_PER_GROUP,
    )
    return SplitManifest(
        shards=(shard,),
        columns=tuple(SCHEMA.names),
        class_names=tuple("0123456789"),
        skipped={},
        preparation={"source": BUILTIN_DIGITS, "encoding": "png", "size": 8},
    )


def _png(image: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()
