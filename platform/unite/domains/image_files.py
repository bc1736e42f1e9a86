"""Image files from outside: which kinds are read, how large they may be, and their pixels.

A file of a few hundred bytes can claim any size, so the header is compared with MAX_PIXELS before
anything is decoded. Only FORMATS are tried: Pillow's other readers start programs (EPS asks for
Ghostscript) or read what nobody trains on. Whatever is refused raises ValueError, a bad row.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from unite.content import HEAD_BYTES, stand_in

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
"""Kinds of files, by Pillow's names."""
MAX_PIXELS = 2**27
"""Largest width times height: 134 million, 400 MB of RGB. Cameras reach 100 million."""
MODES = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
"""Pillow's modes of 8 bits or fewer; their conversion to RGB loses nothing but alpha."""
IMAGE_SUFFIXES = (".jpeg", ".jpg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
"""Endings of the names of image files, in lower case."""
JPEG_START = b"\xff\xd8"
"""First two bytes of every JPEG file."""
# Tags of TIFF files.
_BITS, _PHOTOMETRIC = 258, 262
_WHITE_IS_ZERO = 0


def open_image(data: bytes, formats: tuple[str, ...] = FORMATS) -> Image.Image:
    """A file's header, read; its pixels follow when they are asked for. Close it when done.

    ValueError when it is none of `formats`, is damaged, or claims more than MAX_PIXELS.
    """
    try:
        image = Image.open(io.BytesIO(data), formats=formats)
    except Exception as error:  # Pillow's readers raise whatever a broken file leads them to.
        if why := stand_in(data[:HEAD_BYTES]):
            raise ValueError(f"not a readable image: it {why}") from error
        if isinstance(error, UnidentifiedImageError):  # its text is an address of memory
            raise ValueError(
                f"not a readable image: it begins like none of {', '.join(formats)}"
            ) from error
        raise _unreadable(error) from error
    _check_size(*image.size)
    return image


def read_pixels(data: bytes, channels: int) -> np.ndarray:
    """Decode any image file to uint8 (H, W, channels), channels 3 (RGB) or 1 (grey).

    Alpha is dropped, as in ADM. Grey of 9 to 16 bits keeps its highest 8 bits. Floating-point and
    32-bit grey say nowhere which value is white: ValueError, as for what `open_image` refuses.
    """
    pixels = _decode_jpeg(data, channels)
    if pixels is None:
        with open_image(data) as image:
            try:
                image = _convert(image, channels)
            except Exception as error:  # as above
                raise _unreadable(error) from error
            pixels = np.asarray(image).reshape(image.height, image.width, channels)
    return pixels


def _decode_jpeg(data: bytes, channels: int) -> np.ndarray | None:
    """Pixels of a whole JPEG, as Pillow's to the bit; None when the general path has to decide."""
    if data[:2] != JPEG_START:
        return None
    import simplejpeg  # here: a run on samples without JPEG needs no decoder of it

    try:
        height, width, color, _ = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    _check_size(int(width), int(height))
    if color in ("CMYK", "YCCK"):
        return None
    try:
        return simplejpeg.decode_jpeg(data, "GRAY" if channels == 1 else "RGB")
    except ValueError:
        return None


def _convert(image: Image.Image, channels: int) -> Image.Image:
    """Convert to RGB or grey of 8 bits; ValueError for a mode that has no such form."""
    if image.mode.startswith("I;16"):
        image = _highest_8_bits(image)
    if image.mode not in MODES:
        raise ValueError(
            f"mode {image.mode} has no fixed white value: store 8 or 16 bits a channel"
        )
    wanted = "L" if channels == 1 else "RGB"
    if image.mode != wanted:
        return image.convert(wanted)
    image.load()  # what is damaged shows here, not later
    return image


def _highest_8_bits(image: Image.Image) -> Image.Image:
    """Deep grey without its lowest bits; Pillow would clip it. TIFF may have 12 bits, or negate."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS, (16,))[0]
    pixels = (np.asarray(image) >> (bits - 8)).astype(np.uint8)
    return Image.fromarray(255 - pixels if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO else pixels)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ValueError(f"more than {MAX_PIXELS:,} pixels: {width:,} x {height:,}")


def _unreadable(error: Exception) -> ValueError:
    return ValueError(f"not a readable image: {type(error).__name__}: {error}")
