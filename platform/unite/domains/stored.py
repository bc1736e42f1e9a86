"""Stored form of a config's samples, known without torch: what is prepared, opened and scanned.

stored_of.register(MyConfig, lambda config: Stored(columns=MINE, folders=("mine",)))
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

from unite.config.domains import (
    CrystalsConfig,
    DomainConfig,
    ImagesConfig,
    JointConfig,
    MoleculesConfig,
)
from unite.domains.columns import CRYSTALS, IMAGES, MOLECULES, STRUCTURES, Columns

IMAGE_SIDE = 256
IMAGE_BYTES = 39_600
"""Bytes of an image of this side (JPEG of quality 95): mean of 50 photos of ImageNet."""
IMAGES_PER_S = 1_790.0
"""Such images that one core decodes a second. All rates are of one AMD EPYC core, 2026-11-27, by
`benchmarks/molecule_stream.py --data`."""


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Columns and folders of a domain, as `Domain.columns` and `Domain.folders`."""

    columns: Columns
    folders: tuple[str, ...]
    row_bytes: float = 0.0
    """Mean bytes of a row as it is prepared; 0 = unknown."""
    rows_per_s: float = 0.0
    """Rows that one core decodes a second; 0 = unknown."""


@singledispatch
def stored_of(config: DomainConfig) -> Stored:
    """The stored form of the domain of this config; one that is not registered here is built."""
    from unite.domains.registry import build_domain

    domain = build_domain(config)
    return Stored(columns=domain.columns, folders=domain.folders)


def _register(
    kind: type[DomainConfig], columns: Columns, *folders: str, row_bytes: float, rows_per_s: float
) -> None:
    stored = Stored(columns=columns, folders=folders, row_bytes=row_bytes, rows_per_s=rows_per_s)
    stored_of.register(kind, lambda config: stored)


@stored_of.register(ImagesConfig)
def _images(config: ImagesConfig) -> Stored:
    pixels = (config.size / IMAGE_SIDE) ** 2
    return Stored(
        columns=IMAGES,
        folders=("images",),
        row_bytes=IMAGE_BYTES * pixels,
        rows_per_s=IMAGES_PER_S / pixels,
    )


# Bytes of the shards of QM9 and of the MP20 subset.
_register(MoleculesConfig, MOLECULES, "molecules", row_bytes=234, rows_per_s=82_500)
_register(CrystalsConfig, CRYSTALS, "crystals", row_bytes=304, rows_per_s=44_000)
_register(JointConfig, STRUCTURES, "molecules", "crystals", row_bytes=304, rows_per_s=44_000)
