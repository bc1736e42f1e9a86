"""Features of images: what an extractor is, and what its metrics are called.

A distance is called FID only on torch-fidelity's Inception with the published weights, known by
their digest; on any other extractor it is FD-<name> (`metric_name`). Extractors take uint8 images
(B, C, H, W), grey or RGB. Shapes: B samples, C channels, H height, W width, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypedDict

from unite.lazy import torch
from unite.metrics.errors import MetricError
from unite.metrics.specs import spec_of

if TYPE_CHECKING:
    from torch import Tensor

INCEPTION, PIXELS = "inception-v3-compat", "pixels"
"""Names of the extractors that are not fitted."""
AUTO, SMALL = "auto", "small"
"""Further names that are asked for: what suits the images, and the small extractor that is fitted
on the run's own training data."""
NAMED = (AUTO, "inception", SMALL, INCEPTION, PIXELS)
"""All names that are asked for; anything else is the folder of a fitted extractor."""
INCEPTION_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of the weights that torch-fidelity publishes for FID."""


class Features(TypedDict):
    """Output of an extractor for a batch."""

    features: Tensor
    """Features (B, F), float32."""
    logits: Tensor | None
    """Logits (B, classes), float32, not normalised; None for an extractor without a classifier."""


@dataclass(frozen=True, kw_only=True)
class ExtractorId:
    """An extractor as statistics and cards remember it."""

    name: str
    digest: str
    resize: str
    """The input rule in words."""

    @classmethod
    def of(cls, extractor: FeatureExtractor) -> ExtractorId:
        """Identity of an extractor."""
        return cls(name=extractor.name, digest=extractor.digest, resize=extractor.resize)


class FeatureExtractor(Protocol):
    """Images to features; frozen, and a function of each image alone."""

    name: str
    """Name that enters the metric's name: letters, digits, `-` and `.`."""
    digest: str
    """SHA-256 of the weights, or of the definition of an extractor without weights."""
    num_features: int
    num_classes: int
    """Width of the logits; 0 = none."""
    resize: str
    """The input rule in words, for the metric card."""

    def features(self, images_BCHW: Tensor) -> Features:
        """Features of uint8 images; MetricError for other input."""
        ...

    def to(self, device: torch.device | str) -> FeatureExtractor:
        """Move to a device."""
        ...


def metric_name(extractor: ExtractorId | FeatureExtractor, metric: str = "fid") -> str:
    """True name of a metric on this extractor: `fid`, or `fd-<name>` without the real Inception.

    `metric`: fid, rfid, is, kid, precision, ... or one of them with `_std`. Its row says what it is
    called on another extractor, whose name then follows.
    """
    if extractor.digest == INCEPTION_DIGEST:
        return metric
    base = metric.removesuffix("_std")
    row = spec_of(base)
    elsewhere = row.elsewhere.lower() if row else ""
    return f"{elsewhere or base}{metric.removeprefix(base)}-{extractor.name}"


def check_uint8(images_BCHW: Tensor) -> None:
    """MetricError unless these are uint8 images (B, C, H, W), grey or RGB."""
    if images_BCHW.ndim != 4 or images_BCHW.shape[1] not in (1, 3):
        raise MetricError(
            f"images have shape {tuple(images_BCHW.shape)}, not (samples, 1 or 3, height, width)"
        )
    if images_BCHW.dtype != torch.uint8:
        raise MetricError(f"images are {images_BCHW.dtype}, not uint8: render them first")
