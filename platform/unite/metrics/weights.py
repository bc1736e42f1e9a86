"""Pretrained files found by their SHA-256: in the weights folder, then in torch's cache."""

from __future__ import annotations

import hashlib
import os

from unite.content import stand_in
from unite.storage import Store

SUFFIXES = (".pth", ".pt")


class MissingWeightsError(ValueError):
    """A pretrained file is absent or is not what it should be; the message says what to do."""


def read_weights(file: str, digest: str, *, weights: str = "", purpose: str) -> bytes:
    """Bytes of the file with this SHA-256, or MissingWeightsError saying which file to fetch.

    `weights` is RunConfig.weights: a folder or s3:// URI; empty = UNITE_WEIGHTS. torch's cache
    comes after it. `file` is the usual name: it is tried first, but any other will do. `purpose`
    begins the message ("FID needs ..."). Nothing is downloaded.
    """
    seen: list[str] = []
    for place in weights_folders(weights):
        for name in sorted(_candidates(place), key=lambda name: (name != file, name)):
            data = place.read(name)
            found = hashlib.sha256(data).hexdigest()
            if found == digest:
                return data
            if name == file:
                why = stand_in(data) or f"has another SHA-256 ({found}): incomplete?"
                seen.append(f"{place}/{name} {why}")
        seen.append(f"{place}: no file with that digest")
    raise MissingWeightsError(
        f"{purpose}, which were not found.\n  file: {file}\n  sha256: {digest}\n  looked in:\n"
        + "".join(f"    {line}\n" for line in seen)
        + "Put the file into a folder named by --weights or UNITE_WEIGHTS."
    )


def weights_folders(weights: str) -> list[Store]:
    """Folders to look in, in order: the configured one, then torch's cache."""
    configured = weights or os.environ.get("UNITE_WEIGHTS", "")
    return [Store.open(place) for place in (configured, _torch_cache()) if place]


def _torch_cache() -> str:
    """torch.hub.get_dir() and its checkpoints, without importing torch (tested against it)."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(caches, "torch"))
    return os.path.join(os.path.expanduser(home), "hub", "checkpoints")


def _candidates(place: Store) -> list[str]:
    return [name for name in place.list() if name.endswith(SUFFIXES)]
