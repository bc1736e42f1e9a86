"""Data sets that packages hold: written as shards below the storage when first asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from unite.storage import Store

BUILTINS = {
    "builtin:digits": "unite.data.ingest.digits:prepare_digits",
    "builtin:qm9": "unite.data.ingest.atoms.molecules:prepare_qm9",
}
"""Name where a folder is asked for -> the function that writes it, once."""


def prepare_builtin(name: str, store: Store) -> None:
    """Write all splits into `store` if they are not there; ValueError for an unknown name."""
    if name not in BUILTINS:
        raise ValueError(f"{name} is unknown; there are {', '.join(BUILTINS)}")
    module, _, function = BUILTINS[name].partition(":")
    write: Callable[[Store], None] = getattr(import_module(module), function)
    write(store)
