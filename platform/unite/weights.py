"""Pretrained files found by their SHA-256: in the weights folder, then in torch's cache.

    VGG = Pretrained(file="vgg16-397923af.pth", digest="3979...", num_bytes=553_433_881,
                     purpose="LPIPS needs VGG-16's weights", remedy="Get it by ...")
    place = find_weights(VGG, config.weights)     # a Store, or MissingWeightsError

Nothing is downloaded, and a name decides nothing: a file is the one that has the digest.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from unite.storage import Store

SUFFIXES = (".pth", ".pt")


class MissingWeightsError(ValueError):
    """A pretrained file is absent or is not what it should be; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Pretrained:
    """A pretrained file, and the words for its absence."""

    file: str
    """Usual name: tried first, but any other with SUFFIXES will do."""
    digest: str
    """SHA-256, hex."""
    num_bytes: int = 0
    """Size; files of other names and sizes are not read. 0 = unknown, so that all are."""
    purpose: str
    """Begin of the message: "FID needs torch-fidelity's weights"."""
    remedy: str = ""
    """Sentences after the message: where to get it, and how to do without."""


def find_weights(wanted: Pretrained, weights: str = "") -> Store:
    """Place of the file with this SHA-256, or MissingWeightsError saying which file to fetch.

    `weights` is RunConfig.weights: a folder or s3:// URI; empty = UNITE_WEIGHTS. torch's cache
    comes after it. Reads and hashes the file.
    """
    seen: list[str] = []
    for place in weights_folders(weights):
        for name in _candidates(place, wanted):
            found = place.digest(name)
            if found == wanted.digest:
                return place / name
            if name == wanted.file:
                why = place.stand_in(name) or f"has another SHA-256 ({found}): incomplete?"
                seen.append(f"{place}/{name} {why}")
        seen.append(f"{place}: no file with that digest")
    size = f" ({wanted.num_bytes:,} bytes)" if wanted.num_bytes else ""
    raise MissingWeightsError(
        f"{wanted.purpose}, which were not found.\n  file: {wanted.file}{size}\n"
        f"  sha256: {wanted.digest}\n  looked in:\n"
        + "".join(f"    {line}\n" for line in seen)
        + "Put the file into a folder named by --weights or UNITE_WEIGHTS."
        + (f" {wanted.remedy}" if wanted.remedy else "")
    )


def weights_folders(weights: str) -> list[Store]:
    """Folders to look in, in order: the configured one, then torch's cache."""
    configured = weights or os.environ.get("UNITE_WEIGHTS", "")
    return [Store.open(place) for place in (configured, _torch_cache()) if place]


def weights_in(place: Store) -> dict[str, int]:
    """Name -> bytes of the files directly in a folder that may be pretrained ones."""
    names = [name for name in place.list() if name.endswith(SUFFIXES)]
    return {name: place.size(name) for name in names if place.is_file(name)}


def _candidates(place: Store, wanted: Pretrained) -> list[str]:
    """Files worth hashing: the usual name first, then any of the right size."""
    sizes = weights_in(place)
    fits = [name for name, size in sizes.items() if wanted.num_bytes in (0, size)]
    return sorted({*fits, wanted.file} & sizes.keys(), key=lambda name: (name != wanted.file, name))


def _torch_cache() -> str:
    """torch.hub.get_dir() and its checkpoints, without importing torch (tested against it)."""
    caches = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = os.environ.get("TORCH_HOME", os.path.join(caches, "torch"))
    return os.path.join(os.path.expanduser(home), "hub", "checkpoints")
