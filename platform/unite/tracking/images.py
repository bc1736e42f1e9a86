"""Step-keyed images as MLflow's UI expects them: names that carry key and step, and a thumbnail.

`MlflowClient.log_image` makes three requests and needs the server at once. Here an image becomes
two files with the same names, which the spool can keep and send one by one.
"""

from __future__ import annotations

import io
import re
import uuid
from typing import NamedTuple

import numpy as np
from PIL import Image

THUMBNAIL_PIXELS = 256
KEY = re.compile(r"[a-z0-9_\-./]+")
NAME = re.compile(
    r"images/(?P<key>[^+]+)\+step\+(?P<step>\d+)\+timestamp\+\d+\+[0-9a-f-]+"
    r"(?P<thumbnail>\+compressed\.webp|\.png)"
)


class ImageId(NamedTuple):
    """Identity of an image file within a run."""

    key: str
    step: int
    thumbnail: bool


def check_image(key: str, image_HWC: np.ndarray) -> None:
    """ValueError unless `key` is a plain name and `image_HWC` is uint8 with 1, 3 or 4 channels."""
    if not KEY.fullmatch(key):
        raise ValueError(f"image key '{key}' may only hold a-z, 0-9, _, -, . and /")
    shape = image_HWC.shape
    if image_HWC.dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3, 4):
        raise ValueError(
            f"image '{key}' must be uint8 of shape (H, W, C) with C in 1, 3, 4; it is "
            f"{image_HWC.dtype} {shape}"
        )


def encode_image(key: str, image_HWC: np.ndarray, step: int, time_ms: int) -> dict[str, bytes]:
    """Artifact names and contents of one image: PNG in full size and WebP thumbnail."""
    grey = image_HWC.shape[2] == 1
    picture = Image.fromarray(image_HWC[:, :, 0] if grey else image_HWC)
    thumbnail = picture.copy()
    thumbnail.thumbnail((THUMBNAIL_PIXELS, THUMBNAIL_PIXELS))
    stem = f"images/{key.replace('/', '~')}+step+{step}+timestamp+{time_ms}+{uuid.uuid4()}"
    return {
        f"{stem}.png": _bytes(picture, "PNG"),
        f"{stem}+compressed.webp": _bytes(thumbnail, "WEBP"),
    }


def _bytes(picture: Image.Image, form: str) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format=form)
    return stream.getvalue()


def parse_image_name(name: str) -> ImageId | None:
    """Image that an artifact name stands for; None when it is not a step-keyed image."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    thumbnail = match["thumbnail"].startswith("+")
    return ImageId(match["key"].replace("~", "/"), int(match["step"]), thumbnail)
