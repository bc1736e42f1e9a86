"""The card of a small feature extractor: what it is and how it was made, read without its network.

Stored beside the weights, whose digest it holds. Shapes: C channels, H height, W width, F features.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from unite.metrics.errors import MetricError
from unite.storage import Store

WEIGHTS_FILE = "extractor.safetensors"
CARD_FILE = "extractor.json"
NAME = re.compile(r"[a-z0-9][a-z0-9.-]*")
SMALLEST_MAP = 4
"""Feature maps are halved until their shorter side would fall below this."""
WIDEST = 128
"""Channels double at each halving up to this."""


@dataclass(frozen=True, kw_only=True)
class FitOptions:
    """Settings for training an extractor."""

    images: int = 200_000
    """Training images seen, in whole passes and a part of one."""
    batch_size: int = 128
    lr: float = 2e-3
    """Peak of the one-cycle schedule of AdamW."""
    weight_decay: float = 1e-2
    held_out: float = 0.1
    """Share of the images that measures accuracy and is not trained on."""
    width: int = 32
    """Channels of the first convolution."""
    num_features: int = 64
    """F, width of the last hidden layer."""
    shift: int = 1
    """Training images are moved by up to this many pixels, edges repeated."""

    def __post_init__(self) -> None:
        if min(self.images, self.batch_size, self.width, self.num_features) < 1 or self.shift < 0:
            raise MetricError(
                "images, batch_size, width and num_features must be at least 1, and shift 0"
            )
        if not 0 < self.held_out < 1:
            raise MetricError(f"held_out: {self.held_out} must lie between 0 and 1")


@dataclass(frozen=True, kw_only=True)
class ExtractorCard:
    """Card that is stored beside the weights."""

    name: str
    digest: str
    """SHA-256 of the weights file."""
    image_shape: tuple[int, int, int]
    """Shape of the images, (C, H, W)."""
    num_classes: int
    accuracy: float
    """Share of the held-out images classified correctly, 0 to 1."""
    num_train: int
    num_held_out: int
    data_digest: str
    """Digest of the training data's manifest; empty when fitted on bare arrays."""
    seed: int
    options: FitOptions
    torch_version: str

    @property
    def resize(self) -> str:
        """The input rule in words."""
        channels, height, width = self.image_shape
        return f"none ({height}x{width}, {channels} channels), then x / 127.5 - 1"


def read_fitted(folder: str | Store) -> tuple[ExtractorCard, bytes]:
    """Card and weights of a fitted extractor; MetricError when it is absent or was changed."""
    store = folder if isinstance(folder, Store) else Store.open(folder)
    if not store.is_file(CARD_FILE):
        raise MetricError(
            f"there is no feature extractor {str(folder)!r}: {store}/{CARD_FILE} does not "
            "exist. Name inception-v3-compat, pixels, or the folder of a fitted extractor"
        )
    content = store.read_json(CARD_FILE, {"image_shape": list, "options": dict}, MetricError)
    given = {"image_shape": tuple(content["image_shape"])}
    try:
        card = ExtractorCard(**content | given | {"options": FitOptions(**content["options"])})
    except TypeError as error:
        raise MetricError(f"{store}/{CARD_FILE} is damaged ({error}): fit it anew") from error
    weights = store.read(WEIGHTS_FILE)
    if hashlib.sha256(weights).hexdigest() != card.digest:
        why = store.stand_in(WEIGHTS_FILE) or f"is not what {CARD_FILE} says: fit it anew"
        raise MetricError(f"{store}/{WEIGHTS_FILE} {why}")
    return card, weights


def convolutions(image_shape: tuple[int, int, int], width: int) -> Iterator[tuple[int, int, int]]:
    """(inputs, outputs, halvings of the image before it) of each convolution, 3 x 3, in order."""
    channels, *sides = image_shape
    halvings = 0
    yield channels, width, halvings
    while min(sides) >> (halvings + 1) >= SMALLEST_MAP:
        halvings += 1
        wider = min(2 * width, WIDEST)
        yield width, wider, halvings
        width = wider
    yield width, width, halvings


def training_flop(image_shape: tuple[int, int, int], options: FitOptions) -> float:
    """FLOPs of one training image: its convolutions, forwards and twice that backwards."""
    _, height, width = image_shape
    macs = sum(
        9 * inputs * outputs * (height >> halvings) * (width >> halvings)
        for inputs, outputs, halvings in convolutions(image_shape, options.width)
    )
    return float(3 * 2 * macs)
