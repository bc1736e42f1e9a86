"""Linear probe on frozen latents (METHOD 5; paper Section 7: about 30% top-1 on ImageNet).

Features of a sample are its clean latent z0, averaged over registers (`mean`, D features) or laid
side by side (`flatten`, K D features), standardised on the training set. The probe is multinomial
logistic regression (scikit-learn, L-BFGS, L2 penalty), whose fit is deterministic; its accuracy is
that on held-out samples. Shapes: B samples, K registers, D latent channels, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

Features = Literal["mean", "flatten"]
"""Input of a probe: the average over registers, or all registers side by side."""


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Settings of a probe: its input and its fit."""

    features: Features = "mean"
    """Features that are made of a latent."""
    inverse_penalty: float = 1.0
    """C of scikit-learn: the inverse weight of the L2 penalty."""
    max_iterations: int = 1000
    """Limit of L-BFGS; scikit-learn warns when it is reached."""


@dataclass(frozen=True, kw_only=True)
class ProbeResult:
    """Held-out accuracy, 0 to 1, and the settings and sizes behind it."""

    config: ProbeConfig
    top1: float
    top5: float | None
    """Top-5 accuracy; None with five classes or fewer, where it would always be 1."""
    majority: float
    """Accuracy of always naming the training set's most frequent class."""
    num_train: int
    num_test: int
    num_features: int
    converged: bool


def latent_features(
    z0_BKD: Tensor, features: Features, mask_BK: Tensor | None = None
) -> np.ndarray:
    """Features (B, F) of clean latents, float32. Padded registers (mask False) are left out of
    the mean and must be refused by `flatten`, whose features would shift."""
    if features == "flatten":
        if mask_BK is not None:
            raise ValueError("features: 'flatten' needs equally many registers; use 'mean'")
        return z0_BKD.float().flatten(1).cpu().numpy()
    if mask_BK is None:
        return z0_BKD.float().mean(dim=1).cpu().numpy()
    weights_BK1 = (mask_BK / mask_BK.sum(dim=1, keepdim=True)).unsqueeze(-1)
    return (z0_BKD.float() * weights_BK1).sum(dim=1).cpu().numpy()


def linear_probe(
    train_BF: np.ndarray,
    train_labels_B: np.ndarray,
    test_BF: np.ndarray,
    test_labels_B: np.ndarray,
    config: ProbeConfig,
) -> ProbeResult:
    """Fit on the training features, measure on the held-out ones. Labels are class numbers.

    A held-out class that was never trained on counts as an error. ValueError for sizes that do not
    fit, features that are not finite, or a single training class.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _check(train_BF, train_labels_B, "train")
    _check(test_BF, test_labels_B, "test")
    classes, counts = np.unique(train_labels_B, return_counts=True)
    if len(classes) < 2:
        raise ValueError(f"train labels: only class {classes[0]}; a probe needs at least two")
    regression = LogisticRegression(C=config.inverse_penalty, max_iter=config.max_iterations)
    probe = make_pipeline(StandardScaler(), regression).fit(train_BF, train_labels_B)
    # Stable, so that ties go to the lower class on every machine.
    ranked = classes[np.argsort(-probe.predict_proba(test_BF), axis=1, kind="stable")]
    hits = ranked == test_labels_B[:, None]
    return ProbeResult(
        config=config,
        top1=float(hits[:, 0].mean()),
        top5=float(hits[:, :5].any(axis=1).mean()) if len(classes) > 5 else None,
        majority=float((test_labels_B == classes[counts.argmax()]).mean()),
        num_train=len(train_BF),
        num_test=len(test_BF),
        num_features=train_BF.shape[1],
        converged=bool(regression.n_iter_.max() < config.max_iterations),
    )


def _check(features_BF: np.ndarray, labels_B: np.ndarray, split: str) -> None:
    if len(features_BF) == 0 or features_BF.ndim != 2 or len(features_BF) != len(labels_B):
        raise ValueError(
            f"{split} features {features_BF.shape} and labels {labels_B.shape}: give (B, F) and "
            "(B,) of the same samples, at least one"
        )
    if not np.isfinite(features_BF).all():
        raise ValueError(f"{split} features are not finite; is the checkpoint damaged?")
