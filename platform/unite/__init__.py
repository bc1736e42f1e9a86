"""UNITE on Ray: one Generative Encoder as tokenizer and latent denoiser, trained end to end.

    model = unite.load("runs/digits")
    z, images = unite.sample(model, labels)

The names below are imported on first use, so that `import unite` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from unite.checkpoints.load import load
    from unite.models.unite import UNITE
    from unite.sampling.generator import sample

__version__ = "0.1.0"
__all__ = ["UNITE", "__version__", "load", "sample"]

_HOMES = {
    "UNITE": "unite.models.unite",
    "load": "unite.checkpoints.load",
    "sample": "unite.sampling.generator",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
