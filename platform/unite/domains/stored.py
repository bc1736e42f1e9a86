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


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Columns and folders of a domain, as `Domain.columns` and `Domain.folders`."""

    columns: Columns
    folders: tuple[str, ...]


@singledispatch
def stored_of(config: DomainConfig) -> Stored:
    """The stored form of the domain of this config; one that is not registered here is built."""
    from unite.domains.registry import build_domain

    domain = build_domain(config)
    return Stored(columns=domain.columns, folders=domain.folders)


def _register(kind: type[DomainConfig], columns: Columns, *folders: str) -> None:
    stored = Stored(columns=columns, folders=folders)
    stored_of.register(kind, lambda config: stored)


_register(ImagesConfig, IMAGES, "images")
_register(MoleculesConfig, MOLECULES, "molecules")
_register(CrystalsConfig, CRYSTALS, "crystals")
_register(JointConfig, STRUCTURES, "molecules", "crystals")
