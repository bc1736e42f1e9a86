"""Losses of the adversarial fine-tuning and the weight of its term (METHOD 6; Appendix A).

The paper says "an additional GAN loss" and no more. Hinge and the adaptive weight are those of
VQGAN (Esser, Rombach, Ommer, CVPR 2021), LeCAM is that of Tseng et al. (CVPR 2021).
Verdicts are above 0 where a sample looks real. Shapes: B batch, P verdicts of a sample.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from unite.config.finetune import AdversarialConfig

Loss = Literal["hinge", "vanilla"]
RATIO_EPS = 1e-6
"""Added to the norm of the adversarial gradient, so that a ratio exists where it is 0."""
LECAM_DECAY = 0.99
"""Decay of the mean verdicts that LeCAM holds a discriminator to, per step."""


def discriminator_loss(real_BP: Tensor, fake_BP: Tensor, kind: Loss) -> Tensor:
    """Mean of the losses on real samples and on reconstructions: a scalar.

    hinge: relu(1 - real), relu(1 + fake). vanilla: softplus(-real), softplus(fake).
    """
    if kind == "hinge":
        real, fake = F.relu(1.0 - real_BP).mean(), F.relu(1.0 + fake_BP).mean()
    else:
        real, fake = F.softplus(-real_BP).mean(), F.softplus(fake_BP).mean()
    return 0.5 * (real + fake)


def generator_loss(fake_BP: Tensor, kind: Loss) -> Tensor:
    """Adversarial term of the decoder, a scalar: -fake, or softplus(-fake) for vanilla."""
    return -fake_BP.mean() if kind == "hinge" else F.softplus(-fake_BP).mean()


def lecam_penalty(real_BP: Tensor, fake_BP: Tensor, anchors_2: Tensor) -> Tensor:
    """LeCAM: relu(real - mean fake)^2 + relu(mean real - fake)^2, averaged; `anchors_2` holds the
    running means of the verdicts on real samples and on reconstructions."""
    real, fake = anchors_2
    return F.relu(real_BP - fake).square().mean() + F.relu(real - fake_BP).square().mean()


def accuracy(real_BP: Tensor, fake_BP: Tensor) -> Tensor:
    """Share of verdicts that are right, 0..1: real above 0, fake below; 0 counts half."""
    right = [
        (sign * verdict > 0).float() + 0.5 * (verdict == 0).float()
        for sign, verdict in ((1, real_BP), (-1, fake_BP))
    ]
    return 0.5 * (right[0].mean() + right[1].mean())


def adversarial_weight(
    reconstruction: Tensor, adversarial: Tensor, config: AdversarialConfig
) -> Tensor:
    """Factor of the adversarial gradient, on the device.

    Of the gradients of both terms at the decoder's last layer, averaged over the global batch:
    weight x min(|reconstruction| / (|adversarial| + 1e-6), max_weight). With mode fixed the weight.
    """
    if config.mode == "fixed":
        return torch.full((), config.weight, device=reconstruction.device)
    ratio = reconstruction.float().norm() / (adversarial.float().norm() + RATIO_EPS)
    return config.weight * ratio.clamp(max=config.max_weight)


def in_8_bits(images: Tensor) -> Tensor:
    """Images in [0, 1] clamped and rounded to the 256 values that stored images have."""
    return (images.float().clamp(0.0, 1.0) * 255.0).round() / 255.0
