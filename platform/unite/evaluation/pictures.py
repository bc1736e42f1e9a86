"""Pictures as PNG bytes."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from unite.domains.image_files import open_image


def png(image_HWC: np.ndarray) -> bytes:
    """A uint8 picture, grey (C = 1) or RGB (C = 3)."""
    pixels = image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def read_png(data: bytes) -> np.ndarray:
    """Pixels uint8 (H, W, C) of a file that `png` or a plot wrote."""
    with open_image(data, formats=("PNG",)) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return pixels[..., None] if pixels.ndim == 2 else pixels
