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
from unite.evaluation.images.features import ExtractorId, FeatureExtractor
from unite.evaluation.images.names import AUTO, INCEPTION, SMALL
from unite.metrics.errors import MetricError
from unite.weights import MissingWeightsError

SMALLEST_FOR_INCEPTION = 32
"""Smallest side in pixels: CIFAR-10's, with customary FID. Inception resizes to 299 itself."""
MOST_PIXELS = 1024
"""Values of an image up to which raw pixels are features as well: their covariance stays small."""
GENERIC_FOLDERS = {"train", "data", "shards", "parquet", "images", "dataset", ""}


@dataclass(frozen=True, kw_only=True)
class ExtractorSource:
    """An extractor as tasks name it; equal when its features are."""

    id: ExtractorId
    num_features: int
    num_classes: int
    place: str = field(compare=False)
    """A name of `unite.evaluation.images.names.EXTRACTORS`, or the folder of a fitted one."""
    image_shape: tuple[int, int, int] = field(compare=False)
    """Shape of the images, (C, H, W)."""
    weights: str = field(default="", compare=False)
    """Folder or URI of pretrained weights, as RunConfig.weights."""

    @classmethod
    def open(cls, place: str, images: ImagesConfig, weights: str = "") -> ExtractorSource:
        """Find an extractor; MetricError or MissingWeightsError say what is missing."""
        shape = image_shape(images)
        known = identify_extractor(place, image_shape=shape, weights=weights)
        identity, num_features, num_classes = known
        return cls(
            id=identity,
            num_features=num_features,
            num_classes=num_classes,
            place=place,
            image_shape=shape,
            weights=weights,
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
    hand, MetricError for a folder without an extractor.
    """
    places: list[str] = []
    remarks: list[str] = []
    for request in requested or (AUTO,):
        if request == AUTO:
            found, why = _suited(images, weights)
            places += found
            remarks += why
        else:
            places.append(_named(request))
    for place in places:
        if place != SMALL:
            identify_extractor(place, image_shape=image_shape(images), weights=weights)
    return tuple(dict.fromkeys(places)), tuple(remarks)


def _named(request: str) -> str:
    return INCEPTION if request == "inception" else request


def _suited(images: ImagesConfig, weights: str) -> tuple[list[str], list[str]]:
    if images.channels * images.size**2 <= MOST_PIXELS:
        return [SMALL, "pixels"], []
    if images.channels != 3 or images.size < SMALLEST_FOR_INCEPTION:
        return [SMALL], []
    try:
        identify_extractor(INCEPTION, image_shape=image_shape(images), weights=weights)
    except MissingWeightsError as error:
        return [SMALL], [f"No FID, measured with a small extractor instead. {error}"]
    return [INCEPTION], []


def image_shape(images: ImagesConfig) -> tuple[int, int, int]:
    """Shape of one image, (C, H, W)."""
    return images.channels, images.size, images.size


def small_name(data_uri: str) -> str:
    """Name of the small extractor of a data set: its folder's name and -cnn."""
    parts = [re.sub(r"[^a-z0-9.-]+", "-", part.lower()) for part in data_uri.split("/")]
    parts = [part.strip("-.") for part in parts]
    telling = [part for part in parts if part not in GENERIC_FOLDERS]
    return f"{telling[-1] if telling else 'small'}-cnn"
