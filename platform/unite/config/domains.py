"""Domains' configs: what a sample is, in `RunConfig.domain`.

Each names itself by its `kind`, which is how a stored config finds its class again. It is declared
with `metadata=LATER` in images alone, whose runs were named before there was a second kind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unite.config.serialise import LATER


@dataclass(frozen=True, kw_only=True)
class ImagesConfig:
    """Square RGB or grey images with class labels (the first domain)."""

    kind: Literal["images"] = field(default="images", metadata=LATER)
    """Name of the domain; a stored config without one is of images."""
    size: int = 256
    """Height and width in pixels, after the centre crop."""
    patch: int = 16
    """Side of a patch in pixels; must divide `size`. N = (size / patch)^2 patches."""
    channels: int = 3
    """Colour channels: 3 (RGB) or 1 (grey)."""
    num_classes: int = 1000
    """Classes; labels are 0..num_classes-1. The null class of guidance is added by the model."""
    flip: bool = True
    """Random horizontal flip in training, addressed by (seed, epoch, row)."""
