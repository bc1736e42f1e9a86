"""Versions of what metrics are computed with; it imports in a moment."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("torch", "numpy", "scipy", "torch-fidelity", "scikit-learn")


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that metrics are computed with."""
    versions = {"python": ".".join(map(str, sys.version_info[:3]))}
    for library in LIBRARIES:
        try:
            versions[library] = version(library)
        except PackageNotFoundError:
            versions[library] = "not installed"
    return versions
