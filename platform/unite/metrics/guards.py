"""What is refused or warned of before a number is believed.

Shapes: B samples, C channels, H height, W width.
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from torch import Tensor

from unite.metrics.extractors import FeatureExtractor
from unite.metrics.frechet import Gaussian
from unite.metrics.moments import MetricError, Moments, check_features

LOG = logging.getLogger(__name__)
MOST_CONSTANT = 0.5
"""Share of images of one colour above which a batch is refused; fewer are only warned of."""
SELF_TEST_TOLERANCE = 1e-4
"""Relative difference of features of one image in batches of different sizes."""


def check_images(images_BCHW: Tensor, indices_B: np.ndarray | None = None) -> None:
    """Refuse images that mean a broken model; call it before they are rendered to uint8.

    MetricError, naming sample indices, for NaN or infinite values, and when more than
    MOST_CONSTANT of the images are of a single colour. A few such images are logged as a warning:
    a data set may hold some.
    """
    indices = np.arange(len(images_BCHW)) if indices_B is None else np.asarray(indices_B)
    flat_BCP = images_BCHW.flatten(2)
    if flat_BCP.is_floating_point():
        bad = ~torch.isfinite(flat_BCP).flatten(1).all(dim=1).cpu().numpy()
        if bad.any():
            raise MetricError(
                f"{bad.sum()} of {len(bad)} images hold NaN or infinite values, first sample "
                f"{indices[bad][0]}: the model diverged or its precision is too low"
            )
    constant = (flat_BCP.amax(dim=2) == flat_BCP.amin(dim=2)).all(dim=1).cpu().numpy()
    if constant.mean() > MOST_CONSTANT:
        raise MetricError(
            f"{constant.sum()} of {len(constant)} images are of a single colour, first sample "
            f"{indices[constant][0]}: the model collapsed or was not trained (see latent/std)"
        )
    if constant.any():
        LOG.warning(
            "%d of %d images are of a single colour, first sample %d",
            constant.sum(),
            len(constant),
            indices[constant][0],
        )


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
    """Before a long job: features are what the extractor promises, and d(set, itself) = 0.

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
