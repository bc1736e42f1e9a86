"""Versions of what metrics are computed with; it imports in a moment."""

from __future__ import annotations

import functools
import sys
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("torch", "numpy", "scipy", "torch-fidelity", "scikit-learn")

CHEMISTRY = ("rdkit", "pymatgen", "openbabel-wheel", "posebusters")


def chemistry_versions() -> dict[str, str]:
    """Versions of the packages that judge molecules and crystals."""
    return {library: _version(library) for library in CHEMISTRY}


def library_versions() -> dict[str, str]:
    """Versions of Python and of the libraries that metrics are computed with."""
    python = {"python": ".".join(map(str, sys.version_info[:3]))}
    return python | {library: _version(library) for library in LIBRARIES}


@functools.cache
def _version(library: str) -> str:
    """Version of a library; it is looked up on disk, which takes milliseconds."""
    try:
        return version(library)
    except PackageNotFoundError:
        return "not installed"
