"""Feature extractors of an evaluation, and their origins.

Inception where it was made for the images and its verified file is at hand; otherwise a small
extractor, fitted on the run's own training data and kept in the storage; and for tiny images the
pixels themselves, which depend on no network at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from unite.config.schema import ImagesConfig
from unite.evaluation.images.extractors import build_extractor, identify_extractor
from unite.evaluation.images.features import (
    AUTO,
    INCEPTION,
    NAMED,
    PIXELS,
    SMALL,
    ExtractorId,
    FeatureExtractor,
)
from unite.metrics.errors import MetricError
from unite.storage import Store
from unite.weights import MissingWeightsError

SMALLEST_FOR_INCEPTION = 32
"""Smallest side in pixels: CIFAR-10's, with customary FID. Inception resizes to 299 itself."""
MOST_PIXELS = 1024
"""Values of an image up to which raw pixels are features as well: their covariance stays small."""
ONE_CLASS = (
    "The small extractor learns to tell classes, and these images have one: name another "
    "--extractor, which is inception or the folder of one that was fitted on classes."
)
GENERIC_FOLDERS = {"train", "data", "shards", "parquet", "images", "dataset", ""}


@dataclass(frozen=True, kw_only=True)
class ExtractorSource:
    """An extractor as tasks name it; equal when its features are."""

    id: ExtractorId
    num_features: int
    num_classes: int
    place: str = field(compare=False)
    """INCEPTION, PIXELS, or the folder of a fitted one."""
    image_shape: tuple[int, int, int] = field(compare=False)
    """Shape of the images, (C, H, W)."""
    weights: str = field(default="", compare=False)
    """Folder or URI of pretrained weights, as RunConfig.weights."""

    @classmethod
    def open(cls, place: str, images: ImagesConfig, weights: str = "") -> ExtractorSource:
        """Find an extractor; MetricError or MissingWeightsError say what is missing.

        Places are made absolute: workers have another current folder.
        """
        shape = image_shape(images)
        known = identify_extractor(place, image_shape=shape, weights=weights)
        identity, num_features, num_classes = known
        return cls(
            id=identity,
            num_features=num_features,
            num_classes=num_classes,
            place=place if place in NAMED else Store.open(place).uri,
            image_shape=shape,
            weights=weights and Store.open(weights).uri,
        )

    @property
    def name(self) -> str:
        """Part of metric names."""
        return self.id.name

    @property
    def digest(self) -> str:
        """SHA-256 of its weights, or of its rule."""
        return self.id.digest

    def build(self) -> FeatureExtractor:
        """The extractor on the CPU; MetricError when its weights are not those that were meant."""
        extractor = build_extractor(self.place, image_shape=self.image_shape, weights=self.weights)
        if extractor.digest != self.digest:
            raise MetricError(
                f"extractor {self.place} has digest {extractor.digest[:12]} here and "
                f"{self.digest[:12]} in the driver: workers see other files"
            )
        return extractor


def choose(
    requested: Sequence[str], images: ImagesConfig, weights: str = ""
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Places of the extractors that are asked for, the first of which names the results; remarks.

    A place is a name or folder; SMALL stands for one that is to be fitted. `auto` takes what suits
    the images. MissingWeightsError when Inception was asked for by name and its file is not at
    hand, MetricError for a folder without an extractor and for a fit without classes.
    """
    places: list[str] = []
    remarks: list[str] = []
    for request in requested or (AUTO,):
        if request == AUTO:
            found, why = _suited(images, weights)
            places += found
            remarks += why
        else:
            places.append(INCEPTION if request == "inception" else request)
    if SMALL in places and images.num_classes < 2:
        raise MetricError(ONE_CLASS)
    for place in places:
        if place != SMALL:
            identify_extractor(place, image_shape=image_shape(images), weights=weights)
    return tuple(dict.fromkeys(places)), tuple(remarks)


def _suited(images: ImagesConfig, weights: str) -> tuple[list[str], list[str]]:
    """Places that suit the images, and remarks; MetricError when there are none."""
    fitted, missing = [SMALL] if images.num_classes > 1 else [], ""
    if images.channels * images.size**2 <= MOST_PIXELS:
        return [*fitted, PIXELS], []
    if images.channels == 3 and images.size >= SMALLEST_FOR_INCEPTION:
        try:
            identify_extractor(INCEPTION, image_shape=image_shape(images), weights=weights)
            return [INCEPTION], []
        except MissingWeightsError as error:
            missing = str(error)
    if not fitted:
        raise MetricError(" ".join(filter(None, (ONE_CLASS, missing))))
    remark = f"No FID, measured with a small extractor instead. {missing}"
    return fitted, [remark] if missing else []


def image_shape(images: ImagesConfig) -> tuple[int, int, int]:
    """Shape of one image, (C, H, W)."""
    return images.channels, images.size, images.size


def small_name(data_uri: str) -> str:
    """Name of the small extractor of a data set: its folder's name and -cnn."""
    parts = [re.sub(r"[^a-z0-9.-]+", "-", part.lower()) for part in data_uri.split("/")]
    parts = [part.strip("-.") for part in parts]
    telling = [part for part in parts if part not in GENERIC_FOLDERS]
    return f"{telling[-1] if telling else 'small'}-cnn"
