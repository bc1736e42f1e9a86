"""Feature extractors: they turn images into the features that fidelity is measured on.

A distance is called FID only on torch-fidelity's Inception with the published weights, known by
their digest; on any other extractor it is FD-<name> (`metric_name`). Extractors take uint8 images
(B, C, H, W), grey or RGB. Shapes: B samples, C channels, H height, W width, F features.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypedDict

import torch
from torch import Tensor, nn

from unite.metrics.moments import MetricError
from unite.weights import Pretrained, find_weights

INCEPTION = "inception-v3-compat"
INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
INCEPTION_DIGEST = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
"""SHA-256 of the weights that torch-fidelity publishes for FID."""
INCEPTION_BYTES = 95_628_359
INCEPTION_FEATURES = 2048
INCEPTION_CLASSES = 1008

OTHER_NAMES = {
    "fid": "fd",
    "rfid": "rfd",
    "kid": "kd",
    "kid_std": "kd_std",
    "is": "cs",
    "is_std": "cs_std",
}
"""Names of the metrics that carry Inception in theirs, on another extractor."""


class Features(TypedDict):
    """Output of an extractor for a batch."""

    features: Tensor
    """Features (B, F), float32."""
    logits: Tensor | None
    """Logits (B, classes), float32, not normalised; None for an extractor without a classifier."""


class Named(Protocol):
    """Identity of an extractor."""

    @property
    def name(self) -> str:
        """Name that enters the metric's name: letters, digits, `-` and `.`."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 of the weights, or of the definition of an extractor without weights."""
        ...


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
    """Images to features; frozen, and a function of each image alone. It is `Named`."""

    name: str
    digest: str
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


def metric_name(extractor: Named, metric: str = "fid") -> str:
    """True name of a metric on this extractor: `fid`, or `fd-<name>` without the real Inception.

    `metric`: fid, rfid, is, kid, precision, ... ; on another extractor those in OTHER_NAMES lose
    their reference to Inception, and all carry the extractor's name.
    """
    if extractor.digest == INCEPTION_DIGEST:
        return metric
    return f"{OTHER_NAMES.get(metric, metric)}-{extractor.name}"


def check_uint8(images_BCHW: Tensor) -> None:
    """MetricError unless these are uint8 images (B, C, H, W), grey or RGB."""
    if images_BCHW.ndim != 4 or images_BCHW.shape[1] not in (1, 3):
        raise MetricError(
            f"images have shape {tuple(images_BCHW.shape)}, not (samples, 1 or 3, height, width)"
        )
    if images_BCHW.dtype != torch.uint8:
        raise MetricError(f"images are {images_BCHW.dtype}, not uint8: render them first")


class Inception:
    """torch-fidelity's Inception v3 (2048 pool features, unbiased logits), weights from bytes.

    Float32 without TF32, so that a GPU gives what a CPU gives to rounding.
    """

    num_features = INCEPTION_FEATURES
    num_classes = INCEPTION_CLASSES
    resize = "bilinear as in TensorFlow 1.x to 299x299, then (x - 128) / 128"

    def __init__(self, weights: bytes) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.digest = hashlib.sha256(weights).hexdigest()
        verified = self.digest == INCEPTION_DIGEST
        self.name = INCEPTION if verified else f"{INCEPTION}-{self.digest[:8]}"
        # The path may be a file object, so weights from S3 need no copy on disk.
        self.network: nn.Module = FeatureExtractorInceptionV3(
            INCEPTION, ["2048", "logits_unbiased"], io.BytesIO(weights)
        )

    def to(self, device: torch.device | str) -> Inception:
        """Move to a device."""
        self.network.to(device)
        return self

    @torch.inference_mode()
    def features(self, images_BCHW: Tensor) -> Features:
        """Pool features (B, 2048) and logits (B, 1008); grey images become RGB."""
        check_uint8(images_BCHW)
        device = next(self.network.parameters()).device
        rgb_BCHW = images_BCHW.expand(-1, 3, -1, -1).to(device)
        with exact_convolutions():
            features_BF, logits_BC = self.network(rgb_BCHW)
        return {"features": features_BF, "logits": logits_BC}


class Pixels:
    """The pixels themselves, flattened, in [0, 1]: a distance without any network."""

    name = "pixels"
    num_classes = 0

    def __init__(self, image_shape: tuple[int, int, int]) -> None:
        self.image_shape = image_shape
        channels, height, width = image_shape
        self.num_features = channels * height * width
        self.resize = f"none ({height}x{width}, {channels} channels), then x / 255"
        self.digest = hashlib.sha256(self.resize.encode()).hexdigest()
        self.device = torch.device("cpu")

    def to(self, device: torch.device | str) -> Pixels:
        """Move to a device."""
        self.device = torch.device(device)
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


def exact_convolutions() -> AbstractContextManager[None]:
    """Context in which cuDNN convolves in full float32 with deterministic algorithms."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )


@dataclass(frozen=True, kw_only=True)
class ExtractorRequest:
    """Facts for building an extractor by name."""

    weights: str
    """Folder or URI of pretrained weights, as RunConfig.weights."""
    image_shape: tuple[int, int, int]
    """Shape of the images, (C, H, W)."""
    inception_digest: str
    """SHA-256 that the Inception file must have."""


def _build_inception(request: ExtractorRequest) -> FeatureExtractor:
    ours = request.inception_digest == INCEPTION_DIGEST
    wanted = Pretrained(
        file=INCEPTION_FILE,
        digest=request.inception_digest,
        num_bytes=INCEPTION_BYTES if ours else 0,
        purpose="FID and Inception Score need torch-fidelity's Inception weights",
    )
    return Inception(find_weights(wanted, request.weights).read())


EXTRACTORS: dict[str, Callable[[ExtractorRequest], FeatureExtractor]] = {
    INCEPTION: _build_inception,
    "pixels": lambda request: Pixels(request.image_shape),
}
"""Name -> extractor; add your own here."""


def build_extractor(
    name: str,
    *,
    image_shape: tuple[int, int, int],
    weights: str = "",
    inception_digest: str = INCEPTION_DIGEST,
) -> FeatureExtractor:
    """An extractor on the CPU: a name of EXTRACTORS, or the folder of a fitted small extractor.

    MissingWeightsError when its weights are not at hand, MetricError for an unknown name; so build
    it before a GPU is taken. `inception_digest` lets tests bring Inception weights of their own,
    whose distance is then not called FID.
    """
    if name in EXTRACTORS:
        request = ExtractorRequest(
            weights=weights, image_shape=image_shape, inception_digest=inception_digest
        )
        return EXTRACTORS[name](request)
    from unite.evaluation.images.small import SmallExtractor

    return SmallExtractor.load(name)
