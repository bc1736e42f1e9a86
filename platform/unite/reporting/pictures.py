"""Pictures as data URIs, small enough for many of them to fit into one page."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

from PIL import Image

from unite.domains.image_files import open_image

LARGEST_SIDE = 640
"""Largest side in pixels of a picture on the page."""
SMALL_FILE = 48 * 1024
"""Largest file in bytes that is taken as it is."""
WEBP_QUALITY = 82


@dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A picture inside the page."""

    uri: str
    """Content as a data: URI."""
    width: int
    height: int


def thumbnail(data: bytes) -> Thumbnail:
    """A picture of at most LARGEST_SIDE pixels; ValueError when `data` is no whole picture."""
    try:
        with open_image(data) as image:
            image.load()
            picture, form = image.copy(), image.format
    except (OSError, ValueError) as error:
        raise ValueError(f"{len(data):,} bytes that are no whole picture") from error
    if form == "PNG" and len(data) <= SMALL_FILE and max(picture.size) <= 2 * LARGEST_SIDE:
        return _embedded(data, "image/png", picture)
    picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.convert("RGB").save(file, format="WEBP", quality=WEBP_QUALITY, method=6)
    return _embedded(file.getvalue(), "image/webp", picture)


def _embedded(data: bytes, kind: str, picture: Image.Image) -> Thumbnail:
    uri = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return Thumbnail(uri=uri, width=picture.width, height=picture.height)
