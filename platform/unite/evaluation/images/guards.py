"""Checks, with errors or warnings, before a number is believed.

Shapes: B samples, C channels, H height, W width.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from unite.evaluation.images.features import FeatureExtractor
from unite.lazy import torch
from unite.metrics.errors import MetricError
from unite.metrics.frechet import Gaussian
from unite.metrics.moments import Moments, check_features

if TYPE_CHECKING:
    from torch import Tensor

LOG = logging.getLogger(__name__)
MOST_CONSTANT = 0.5
"""Share of images of one colour above which a chunk is refused; fewer are only warned of."""
SELF_TEST_TOLERANCE = 1e-4
"""Relative difference of features of one image in batches of different sizes."""


@dataclass
class ImageGuard:
    """Refuses images that mean a broken model; show it the images before they become uint8."""

    num: int = 0
    constant: list[int] = field(default_factory=list)
    """Indices of images of a single colour."""

    def add(self, images_BCHW: Tensor, indices_B: np.ndarray) -> None:
        """Look at a batch; MetricError, naming a sample, for NaN or infinite values."""
        flat_BCP = images_BCHW.flatten(2)
        bad_B = ~torch.isfinite(flat_BCP).flatten(1).all(dim=1).cpu().numpy()
        if bad_B.any():
            raise MetricError(
                f"{bad_B.sum()} of {len(bad_B)} images hold NaN or infinite values, first sample "
                f"{indices_B[bad_B][0]}: the model diverged or its precision is too low"
            )
        constant_B = (flat_BCP.amax(dim=2) == flat_BCP.amin(dim=2)).all(dim=1).cpu().numpy()
        self.num += len(bad_B)
        self.constant += indices_B[constant_B].tolist()

    def check(self) -> None:
        """MetricError when more than MOST_CONSTANT of all images are of a single colour.

        A few are logged as a warning: a data set may hold some. So it is asked of a whole chunk,
        where a batch of one would condemn a model for one black picture.
        """
        if not self.constant:
            return
        told = (
            f"{len(self.constant)} of {self.num} images are of a single colour, first sample "
            f"{self.constant[0]}"
        )
        if len(self.constant) > MOST_CONSTANT * self.num:
            raise MetricError(f"{told}: the model collapsed or was not trained (see latent/std)")
        LOG.warning("%s", told)


def bias_warning(num_samples: int, num_features: int) -> str | None:
    """Text to show beside a distance that rests on too few samples; None when there are enough."""
    if num_samples > num_features:
        return None
    return (
        f"{num_samples} samples for {num_features} features: their covariance is singular and the "
        "Frechet distance is biased upwards. Compare it only at the same number of samples, or "
        f"draw more than {num_features}"
    )


def self_test(extractor: FeatureExtractor, images_BCHW: Tensor) -> None:
    """Check before a long job: features are as the extractor promises, and d(set, itself) = 0.

    `images_BCHW`: two or more uint8 images. MetricError when shapes are wrong, when an image's
    features depend on its batch, or when the distance of the set to itself is not rounding.
    """
    made = extractor.features(images_BCHW)
    features_BF = check_features(made["features"], extractor.num_features)
    width = 0 if made["logits"] is None else made["logits"].shape[1]
    if width != extractor.num_classes:
        raise MetricError(
            f"extractor {extractor.name} gave {width} logits instead of {extractor.num_classes}"
        )
    alone_1F = check_features(extractor.features(images_BCHW[:1])["features"])
    difference = float((alone_1F - features_BF[:1]).abs().max())
    if difference > SELF_TEST_TOLERANCE * float(features_BF[:1].abs().max()):
        raise MetricError(
            f"extractor {extractor.name}: features of an image change by {difference} with its "
            "batch, so metrics would depend on the batch size"
        )
    moments = Moments.of(features_BF)
    Gaussian(moments.mean(), moments.covariance()).self_test()
