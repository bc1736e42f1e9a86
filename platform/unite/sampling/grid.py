"""Pictures and files of samples: a grid, PNGs, and the npz that evaluation tools read."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from unite.domains.image_files import open_image
from unite.storage import Store

SMALLEST_SIDE = 64
"""Pixels that images are enlarged to at least, in whole factors, to be seen in a grid."""
GAP = 2
"""Pixels of white between the images of a grid."""


def image_grid(images_BHWC: np.ndarray, columns: int, *, scale: int | None = None) -> np.ndarray:
    """Arrange uint8 images (B, H, W, C) row by row into one picture (H', W', C).

    `scale` enlarges by a whole factor with nearest neighbours; None brings tiny images to
    SMALLEST_SIDE. Missing places of the last row are white.
    """
    _check_images(images_BHWC)
    if columns < 1:
        raise ValueError(f"columns must be at least 1, not {columns}")
    num, height, width, channels = images_BHWC.shape
    scale = scale or max(1, math.ceil(SMALLEST_SIDE / min(height, width)))
    enlarged = images_BHWC.repeat(scale, axis=1).repeat(scale, axis=2)
    rows = math.ceil(num / columns)
    step_y, step_x = height * scale + GAP, width * scale + GAP
    grid = np.full((rows * step_y - GAP, columns * step_x - GAP, channels), 255, np.uint8)
    for index, image in enumerate(enlarged):
        top, left = index // columns * step_y, index % columns * step_x
        grid[top : top + image.shape[0], left : left + image.shape[1]] = image
    return grid


def png(image_HWC: np.ndarray) -> bytes:
    """File of one uint8 picture, grey (C = 1) or RGB (C = 3)."""
    _check_images(image_HWC[None])
    pixels = image_HWC[..., 0] if image_HWC.shape[-1] == 1 else image_HWC
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()


def read_png(data: bytes) -> np.ndarray:
    """Pixels uint8 (H, W, C) of a file that `png` or a plot wrote."""
    with open_image(data, formats=("PNG",)) as image:
        pixels = np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def save_png(store: Store, name: str, image_HWC: np.ndarray) -> None:
    """Write one picture."""
    store.write(name, png(image_HWC))


def save_samples(store: Store, name: str, images_BHWC: np.ndarray, labels_B: np.ndarray) -> None:
    """Write an npz with `images` uint8 (N, H, W, C) and `labels` int64 (N,).

    ADM's evaluator reads the images as `arr_0`, so that they stand there too.
    """
    _check_images(images_BHWC)
    if len(images_BHWC) != len(labels_B):
        raise ValueError(f"{len(images_BHWC)} images, but {len(labels_B)} labels")
    file = io.BytesIO()
    labels_B = np.asarray(labels_B, np.int64)
    np.savez(file, arr_0=images_BHWC, images=images_BHWC, labels=labels_B)
    store.write(name, [file.getbuffer()])  # getvalue would copy what may be gigabytes


def _check_images(images: np.ndarray) -> None:
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "images must be uint8 (..., H, W, C) with 1 or 3 channels, not "
            f"{images.dtype} of shape {images.shape}; domain.render makes them"
        )
