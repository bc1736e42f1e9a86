"""The domain of a config."""

from __future__ import annotations

from functools import singledispatch
from importlib import import_module
from typing import TYPE_CHECKING

from unite.config.domains import (
    CrystalsConfig,
    DomainConfig,
    ImagesConfig,
    JointConfig,
    MoleculesConfig,
)

if TYPE_CHECKING:
    from unite.domains.base import Domain


@singledispatch
def build_domain(config: DomainConfig) -> Domain:
    """The domain that belongs to a config; TypeError for a config of no known domain.

    A further domain registers its class for its config here: nothing else knows domains by name.
    """
    raise TypeError(f"no domain has a config of type {type(config).__name__}")


def _register(kind: type[DomainConfig], module: str, name: str) -> None:
    """Register a class by its place: torch comes with it when a first domain is built."""

    @build_domain.register(kind)
    def _(config: DomainConfig) -> Domain:
        return getattr(import_module(module), name)(config)


_register(ImagesConfig, "unite.domains.images", "ImagesDomain")
_register(MoleculesConfig, "unite.domains.atoms.domain", "MoleculesDomain")
_register(CrystalsConfig, "unite.domains.atoms.domain", "CrystalsDomain")
_register(JointConfig, "unite.domains.atoms.joint", "JointDomain")
