"""The centre crop of ADM, and image files to pixels of one size.

Everything is deterministic, works on the CPU and may be called from any thread.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from unite.domains.image_files import read_pixels

LONG = 32
"""Sides of the crop beyond which a scaled image counts as long and is never made whole."""
FILTER_REACH = 4
"""Pixels beside its place that the bicubic filter reads, at a reduction below 2."""


def center_crop_adm(image: Image.Image, size: int) -> Image.Image:
    """Resize and crop to size x size as in ADM (METHOD 3).

    Halve with a box filter while the short side is at least 2 * size, scale the short side to
    `size` with a bicubic filter, cut the centre.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    scaled = (round(image.width * scale), round(image.height * scale))
    left, top = (scaled[0] - size) // 2, (scaled[1] - size) // 2
    if max(scaled) > LONG * size:
        return _crop_of_long(image, scaled, (left, top), size)
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    return image.crop((left, top, left + size, top + size))


def _crop_of_long(
    image: Image.Image, scaled: tuple[int, int], corner: tuple[int, int], size: int
) -> Image.Image:
    """The crop at `corner` of the image scaled to `scaled`; computes no more than that.

    1 x 60,000 pixels scaled to a short side of 256 would take 12 GB.
    """
    spans = []  # of the crop in pixels of `image`, by axis, and the pixels that the filter reads
    for side, whole, place in zip(image.size, scaled, corner, strict=True):
        start, end = place * side / whole, min((place + size) * side / whole, side)
        first, last = max(int(start) - FILTER_REACH, 0), min(int(end) + 1 + FILTER_REACH, side)
        spans.append((start - first, end - first, first, last))
    (left, right, *columns), (top, bottom, *rows) = spans
    image = image.crop((columns[0], rows[0], columns[1], rows[1]))
    # Across, then down, as for a whole image: between the passes values are clipped to 8 bits.
    bicubic = Image.Resampling.BICUBIC
    image = image.resize((size, image.height), bicubic, box=(left, 0, right, image.height))
    return image.resize((size, size), bicubic, box=(0, top, size, bottom))


def decode_image(data: bytes, size: int, channels: int) -> np.ndarray:
    """Decode any image file to uint8 (size, size, channels), channels 3 (RGB) or 1 (grey).

    An image that already is size x size is decoded only; another is cropped as in ADM. Raises
    ValueError when the bytes are no complete image, or one that `read_pixels` refuses.
    """
    pixels = read_pixels(data, channels)
    if pixels.shape[:2] != (size, size):
        image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
        pixels = np.asarray(center_crop_adm(image, size))
    return pixels.reshape(size, size, channels)
