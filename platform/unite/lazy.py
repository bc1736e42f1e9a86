"""torch, imported when a name of it is first used: `from unite.lazy import torch`.

Whoever plans, scans and reads what is kept needs no torch, which costs seconds and half a gigabyte.
Modules whose functions compute, and whose classes and decorators do without it, take it from here;
what a training step runs imports it plainly, so that it can be compiled.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any


class Lazy(ModuleType):
    """A module by its name, imported with the first attribute that is asked for."""

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)


if TYPE_CHECKING:
    import torch
else:
    torch = Lazy("torch")
