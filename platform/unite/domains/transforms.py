"""Image bytes to pixels: the centre crop of ADM and a fast path for JPEG.

Everything is deterministic, works on the CPU and may be called from any thread.
"""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image

JPEG_START = b"\xff\xd8"
"""First two bytes of every JPEG file."""


def center_crop_adm(image: Image.Image, size: int) -> Image.Image:
    """Resize and crop to size x size as in ADM (METHOD 3).

    Halve with a box filter while the short side is at least 2 * size, scale the short side to
    `size` with a bicubic filter, cut the centre.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    scaled = (round(image.width * scale), round(image.height * scale))
    image = image.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def decode_image(data: bytes, size: int, channels: int) -> np.ndarray:
    """Any image file to uint8 (size, size, channels), channels 3 (RGB) or 1 (grey).

    An image that already is size x size is decoded only; another is cropped as in ADM. Raises
    ValueError when the bytes are no complete image.
    """
    pixels = _decode_jpeg(data, channels)
    if pixels is None:
        pixels = _decode_any(data, channels)
    if pixels.shape[:2] != (size, size):
        image = Image.fromarray(pixels if channels == 3 else pixels[..., 0])
        pixels = np.asarray(center_crop_adm(image, size))
    return pixels.reshape(size, size, channels)


def _decode_jpeg(data: bytes, channels: int) -> np.ndarray | None:
    """Pixels of a whole JPEG, as Pillow's to the bit; None when the general path has to decide."""
    if data[:2] != JPEG_START:
        return None
    try:
        if simplejpeg.decode_jpeg_header(data)[2] in ("CMYK", "YCCK"):
            return None
        return simplejpeg.decode_jpeg(data, "GRAY" if channels == 1 else "RGB")
    except ValueError:
        return None


def _decode_any(data: bytes, channels: int) -> np.ndarray:
    """Pixels (H, W, channels) of any file that Pillow reads."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            image = _convert(image, channels)
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to.
        raise ValueError(f"not a readable image: {type(error).__name__}: {error}") from error
    return np.asarray(image).reshape(image.height, image.width, channels)


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """To RGB or grey. Alpha is dropped, as in ADM; 16-bit grey is scaled, where Pillow clips."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L" if channels == 1 else "RGB")
