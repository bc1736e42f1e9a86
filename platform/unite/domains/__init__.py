"""What a sample is: one class per domain, built from its config."""

from __future__ import annotations

from unite.config.schema import ImagesConfig
from unite.domains.base import Domain
from unite.domains.images import ImagesDomain

__all__ = ["Domain", "ImagesDomain", "build_domain"]


def build_domain(config: ImagesConfig) -> Domain:
    """The domain that belongs to a config; TypeError for a config of no known domain."""
    if isinstance(config, ImagesConfig):
        return ImagesDomain(config)
    raise TypeError(f"no domain has a config of type {type(config).__name__}")
