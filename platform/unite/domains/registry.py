"""The domain of a config."""

from __future__ import annotations

from functools import singledispatch

from unite.config.domains import CrystalsConfig, DomainConfig, ImagesConfig, MoleculesConfig
from unite.domains.atoms.domain import CrystalsDomain, MoleculesDomain
from unite.domains.base import Domain
from unite.domains.images import ImagesDomain


@singledispatch
def build_domain(config: DomainConfig) -> Domain:
    """The domain that belongs to a config; TypeError for a config of no known domain.

    A further domain registers its class for its config here: nothing else knows domains by name.
    """
    raise TypeError(f"no domain has a config of type {type(config).__name__}")


build_domain.register(ImagesConfig, ImagesDomain)
build_domain.register(MoleculesConfig, MoleculesDomain)
build_domain.register(CrystalsConfig, CrystalsDomain)
