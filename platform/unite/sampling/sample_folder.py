"""The folder of one call's samples, as tools that measure sets of images read it.

OUT/000000-class3.png, ...   one PNG a sample, and no other image: FID tools count every image
OUT/samples.npz              all of them, in order
OUT/samples.json             the request, by which an interrupted call is recognised
OUT/.finished.json           what was printed, by which a finished call is (sampling/finished.py)
OUT-grid.png                 the grid, beside the folder
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unite.checkpoints.tensors import safetensors_chunks
from unite.storage import Store

SAMPLES_FILE = "samples.npz"
REQUEST_FILE = "samples.json"
SAMPLE = re.compile(r"(\d{6,})(?:-class\d+)?\.png")
OURS = re.compile(rf"{SAMPLE.pattern}|samples\.(json|npz)|grid\.png")
"""Files of a call; the grid of images lay in the folder once."""
IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".npy"),
)
"""Endings that torch-fidelity, pytorch-fid or clean-fid take for samples."""
LISTED = 5


def sample_name(index: int, label: int | None) -> str:
    """File name of a sample; label None = it has no class."""
    return f"{index:06d}.png" if label is None else f"{index:06d}-class{label}.png"


def grid_of(out: Store) -> Store:
    """The grid's file, beside the folder; ValueError when a folder has nothing beside it."""
    parent = out.uri.rpartition("/")[0]
    if parent.endswith(":/"):
        raise ValueError(f"--out {out}: name a folder in the bucket; the grid is put beside it")
    return Store(f"{out.uri}-grid.png")


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of a model's weights (16 hex digits), wherever they came from."""
    total = hashlib.sha256()
    for piece in safetensors_chunks({name: tensor.cpu() for name, tensor in state.items()}, {}):
        total.update(piece)
    return total.hexdigest()[:16]


def claim(
    out: Store, request: Mapping[str, Any], *, replace: bool, files: re.Pattern[str] = OURS
) -> list[str]:
    """Reserve the folder for `request`; returns the names of the files that it holds already.

    An interrupted call of the same request left them. `files`: further names of a call's files.
    ValueError when the folder holds other samples and `replace` is not set, or images that no call
    made.
    """
    names = out.list()
    ours = [name for name in names if OURS.fullmatch(name) or files.fullmatch(name)]
    foreign = [n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and n not in ours]
    if foreign:
        raise ValueError(
            f"--out {out} holds images that are no samples of this program ({_listed(foreign)}): "
            "whatever reads the folder would count them. Name another --out"
        )
    before = out.read_json(REQUEST_FILE, {}, ValueError) if REQUEST_FILE in names else {}
    if before == request:
        return ours
    if ours and not replace:
        raise ValueError(
            f"--out {out} holds the samples of another call ({_listed(ours)})"
            f"{_why(before, request)}. Name another --out, or give --replace to delete them first"
        )
    # The record goes first: of what a kill leaves, nothing is taken for samples of a request.
    for name in sorted(ours, key=lambda name: name != REQUEST_FILE):
        out.delete(name)
    out.write_json(REQUEST_FILE, dict(request))
    return []


def _why(before: Mapping[str, Any], request: Mapping[str, Any]) -> str:
    """Fields in which two requests differ, in words; empty for a folder without a record."""
    changed = [name for name in request if before and before.get(name) != request[name]]
    return f", which differs in {', '.join(changed)}" if changed else ""


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
