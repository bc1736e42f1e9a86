"""Extractors by name: Inception, the pixels themselves, and fitted ones by their folder.

Shapes: B samples, C channels, H height, W width, F features.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from unite.evaluation.images.features import (
    INCEPTION,
    INCEPTION_DIGEST,
    PIXELS,
    ExtractorId,
    FeatureExtractor,
    Features,
    check_uint8,
)
from unite.evaluation.images.small_card import read_fitted
from unite.evaluation.instruments import exact_convolutions
from unite.lazy import torch
from unite.metrics.errors import MetricError
from unite.weights import Pretrained, find_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_WEIGHTS = Pretrained(
    file=INCEPTION_FILE,
    digest=INCEPTION_DIGEST,
    num_bytes=95_628_359,
    purpose="FID and Inception Score need torch-fidelity's Inception weights",
)


class Inception:
    """torch-fidelity's Inception v3 (2048 pool features, unbiased logits), weights from bytes.

    Float32 without TF32, so that a GPU gives what a CPU gives to rounding.
    """

    num_features = 2048
    num_classes = 1008
    resize = "bilinear as in TensorFlow 1.x to 299x299, then (x - 128) / 128"

    def __init__(self, weights: bytes) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.digest = hashlib.sha256(weights).hexdigest()
        published = self.digest == INCEPTION_DIGEST
        self.name = INCEPTION if published else f"{INCEPTION}-{self.digest[:8]}"
        # The path may be a file object, so weights from S3 need no copy on disk.
        self.network: nn.Module = FeatureExtractorInceptionV3(
            INCEPTION, ["2048", "logits_unbiased"], io.BytesIO(weights)
        )

    def to(self, device: torch.device | str) -> Inception:
        """Move to a device."""
        self.network.to(device)
        return self

    def features(self, images_BCHW: Tensor) -> Features:
        """Pool features (B, 2048) and logits (B, 1008); grey images become RGB."""
        check_uint8(images_BCHW)
        device = next(self.network.parameters()).device
        rgb_BCHW = images_BCHW.expand(-1, 3, -1, -1).to(device)
        with torch.inference_mode(), exact_convolutions():
            features_BF, logits_BC = self.network(rgb_BCHW)
        return {"features": features_BF, "logits": logits_BC}


class Pixels:
    """The pixels themselves, flattened, in [0, 1]: a distance without any network."""

    name = PIXELS
    num_classes = 0

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.image_shape = image_shape
        channels, height, width = image_shape
        self.num_features = channels * height * width
        self.resize = f"none ({height}x{width}, {channels} channels), then x / 255"
        self.digest = hashlib.sha256(self.resize.encode()).hexdigest()
        self.device: torch.device | str = "cpu"

    def to(self, device: torch.device | str) -> Pixels:
        """Move to a device."""
        self.device = device
        return self

    def features(self, images_BCHW: Tensor) -> Features:
        """Pixels (B, C H W) in [0, 1]."""
        check_uint8(images_BCHW)
        if tuple(images_BCHW.shape[1:]) != self.image_shape:
            raise MetricError(
                f"images of shape {tuple(images_BCHW.shape[1:])} for pixel features of "
                f"{self.image_shape}"
            )
        return {"features": images_BCHW.to(self.device).flatten(1) / 255, "logits": None}


def build_extractor(
    name: str, *, image_shape: tuple[int, int, int], weights: str = ""
) -> FeatureExtractor:
    """An extractor on the CPU: inception-v3-compat, pixels, or the folder of a fitted one.

    MissingWeightsError when its weights are not at hand, MetricError for an unknown name; so build
    it before a GPU is taken.
    """
    if name == INCEPTION:
        return Inception(find_weights(INCEPTION_WEIGHTS, weights).read())
    if name == PIXELS:
        return Pixels(image_shape)
    from unite.evaluation.images.small import SmallExtractor

    return SmallExtractor.load(name)


def identify_extractor(
    name: str, *, image_shape: tuple[int, int, int], weights: str = ""
) -> tuple[ExtractorId, int, int]:
    """Identity, number of features and of classes of an extractor, whose network is not built.

    As of `build_extractor`, and with its errors.
    """
    if name == INCEPTION:
        find_weights(INCEPTION_WEIGHTS, weights)
        identity = ExtractorId(name=name, digest=INCEPTION_DIGEST, resize=Inception.resize)
        return identity, Inception.num_features, Inception.num_classes
    if name == PIXELS:
        pixels = Pixels(image_shape)
        return ExtractorId.of(pixels), pixels.num_features, pixels.num_classes
    card, _ = read_fitted(name)
    identity = ExtractorId(name=card.name, digest=card.digest, resize=card.resize)
    return identity, card.options.num_features, card.num_classes
