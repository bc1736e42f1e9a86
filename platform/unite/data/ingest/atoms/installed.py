"""Optional packages: data that one holds, and one message that names the extra for each."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unite.words import brings


def folder_of(source: str, builtin: str, package: str, extra: str) -> str:
    """The folder of data of an installed package where `source` is `builtin`; else the source.

    The package is not imported. ValueError names the extra when it is missing.
    """
    if source != builtin:
        return source
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(_missing(builtin, package, extra))
    return str(Path(next(iter(spec.submodule_search_locations))) / "data")


def require(module: str, extra: str, what: str) -> Any:
    """An optional module, imported; ValueError names the extra when its package is missing."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ValueError(_missing(what, module.partition(".")[0], extra)) from error


def _missing(what: str, package: str, extra: str) -> str:
    return f"{what} needs the package {package}, which is not installed: {brings(extra)}"
