"""Domains, the kinds of samples: one class for each, built from its config.

The names below are imported on first use, so that cropping and encoding need no torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unite.domains.base import Domain
    from unite.domains.images import ImagesDomain
    from unite.domains.registry import build_domain

__all__ = ["Domain", "ImagesDomain", "build_domain"]

_HOMES = {
    "Domain": "unite.domains.base",
    "ImagesDomain": "unite.domains.images",
    "build_domain": "unite.domains.registry",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
