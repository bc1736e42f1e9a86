"""Monitors of training: the latent's health and non-finite numbers (METHOD 8).

Shapes: B batch, K registers, D latent channels. The functions compute on the tensor's device;
reading a result (float(...)) is what waits for it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from unite.config.finetune import AdversarialConfig

# The latent starts at zero by design: until it has once spread, it gets this share of training, or
# these steps where they are more. Sound digits runs spread within 100. A run that ends before has
# learned nothing yet, and is not judged.
GRACE = 0.1
GRACE_STEPS = 200
# A discriminator wins if it does so for so many logs; so near to 1/2 it sees no difference.
WINNING, WINNING_LOGS, CHANCE, NEAR_CHANCE = 0.95, 5, 0.5, 0.02
# A latent may dip while the flow loss ramps up; one that has collapsed is low more often than not.
LOW_LOGS, RECENT_LOGS = 3, 5


def latent_std(z_BKD: Tensor, mask_BK: Tensor | None = None) -> Tensor:
    """Standard deviation over the batch, mean over registers and channels: a scalar.

    Near 0 the latent no longer depends on the sample (collapse). With a mask, padded registers do
    not count, nor do registers that fewer than two samples use. NaN when no two samples can be
    compared, which compares false with every threshold.
    """
    if mask_BK is not None:
        return _masked_std(z_BKD.float(), mask_BK)
    if z_BKD.shape[0] < 2:
        return z_BKD.new_full((), torch.nan, dtype=torch.float32)
    return z_BKD.float().std(dim=0).mean()


def _masked_std(z_BKD: Tensor, mask_BK: Tensor) -> Tensor:
    used_BK1 = mask_BK[..., None].to(z_BKD)
    count_K1 = used_BK1.sum(dim=0)
    mean_KD = (used_BK1 * z_BKD).sum(dim=0) / count_K1.clamp(min=1.0)
    squares_KD = (used_BK1 * (z_BKD - mean_KD).square()).sum(dim=0)
    std_KD = (squares_KD / (count_K1 - 1.0).clamp(min=1.0)).sqrt()
    comparable_K1 = (count_K1 > 1).to(z_BKD)
    # 0 / 0 is the NaN of the docstring.
    return (comparable_K1 * std_KD).sum() / (comparable_K1.sum() * z_BKD.shape[2])


def effective_rank(z_BKD: Tensor, mask_BK: Tensor | None = None) -> Tensor:
    """exp of the entropy of the covariance spectrum over channels: a scalar in 1..D.

    D when the latent uses all directions alike, 1 when it lies on a line or is constant
    (Roy and Vetterli 2007, on the covariance's eigenvalues). With a mask, of registers in use.
    """
    x_SD = z_BKD.detach().double().flatten(0, 1)
    if mask_BK is not None:
        x_SD = x_SD[mask_BK.flatten()]
    x_SD = x_SD - x_SD.mean(dim=0)
    spectrum_D = torch.linalg.eigvalsh(x_SD.mT @ x_SD / x_SD.shape[0]).clamp(min=0.0)
    share_D = spectrum_D / spectrum_D.sum().clamp(min=torch.finfo(spectrum_D.dtype).tiny)
    return torch.special.entr(share_D).sum().exp()


def samples_differ(fields: Mapping[str, np.ndarray]) -> bool:
    """True if a batch has samples that differ in anything but their labels.

    For a single image, or for images of one colour, a constant latent is the right one.
    """
    contents = [value for name, value in fields.items() if name != "label"]
    return any(bool((value[1:] != value[:1]).any()) for value in contents)


def has_learned(images: int, batch_size: int) -> bool:
    """True if a run of so many images is long enough for its latent to have spread."""
    return images > GRACE_STEPS * batch_size


class CollapseWatch:
    """Tells a latent that is mostly under `threshold` from one that starts or dips there."""

    def __init__(self, threshold: float, total_images: int, batch_size: int) -> None:
        self.threshold = threshold
        self.grace = max(GRACE * total_images, GRACE_STEPS * batch_size)
        self._is_judged = has_learned(total_images, batch_size)
        self._spread = False
        self._low: deque[bool] = deque(maxlen=RECENT_LOGS)
        self._told = False

    def look(self, std: float, images: int, *, pressed: bool) -> str:
        """The warning, once, at the log point after `images`; else "".

        `pressed`: the flow loss has weight, and the batch has images that differ.
        """
        self._spread |= std >= self.threshold
        if self._spread or images >= self.grace:
            self._low.append(pressed and std < self.threshold)
        if self._told or not self._is_judged or sum(self._low) < LOW_LOGS:
            return ""
        self._told = True
        return collapse_warning(std, self.threshold)


def collapse_warning(std: float, threshold: float) -> str:
    """The warning of a collapsed latent, with the fields that cure it (METHOD 8)."""
    return (
        f"latent/std is mostly under training.collapse_std = {threshold} (now {std:.3f}): the "
        "latent hardly depends on the sample, so reconstructions and samples will be poor or all "
        'alike. At small scale the flow loss wins against reconstruction by "predict a constant". '
        "The cure is all three together: flow.reduction mean, flow.warmup_fraction about 0.3, and "
        "loss.reconstruction_weight about 10 (the recipes digits and cifar10 have them). A latent "
        "that has collapsed seldom recovers: look at the next few logs, then start again."
    )


class AdversaryWatch:
    """Tells an adversary that wins, sees no difference, or has no gradient: each once."""

    def __init__(self, total_images: int, config: AdversarialConfig) -> None:
        self.total_images = total_images
        self.limit = config.weight * config.max_weight if config.mode == "adaptive" else math.inf
        self._recent: deque[bool] = deque(maxlen=WINNING_LOGS)
        self._blind: list[bool] = []
        self._told: set[str] = set()

    def look(self, values: Mapping[str, float], images: int) -> str:
        """The warning at the log point after `images`, if there is reason to; else ""."""
        if "disc/accuracy" not in values:
            return ""
        right = values["disc/accuracy"]
        self._recent.append(right > WINNING)
        if images > self.total_images / 2:
            self._blind.append(abs(right - CHANCE) <= NEAR_CHANCE)
        ends = images >= self.total_images
        reasons = {
            ADVERSARY_WINS: sum(self._recent) == WINNING_LOGS,
            ADVERSARY_BLIND: ends and len(self._blind) >= WINNING_LOGS and all(self._blind),
            WEIGHT_AT_LIMIT: values.get("disc/weight", 0.0) >= 0.999 * self.limit,
        }
        for text, holds in reasons.items():
            if holds and text not in self._told:
                self._told.add(text)
                return text
        return ""


ADVERSARY_WINS = (
    f"disc/accuracy was above {WINNING} for {WINNING_LOGS} logs: the adversary wins, and the "
    "decoder learns its noise. Lower adversarial.weight or discriminator.trunk_lr_scale, set "
    "discriminator.trunk frozen, or give adversarial.lecam a weight."
)
ADVERSARY_BLIND = (
    f"disc/accuracy was within {NEAR_CHANCE} of {CHANCE} for the whole second half: the adversary "
    "sees no difference, so the adversarial term changes nothing that it could tell. Compare with "
    "the control (--adversarial.weight 0): what was gained is the longer training's."
)
WEIGHT_AT_LIMIT = (
    "disc/weight is at its limit, adversarial.max_weight: the adversary's gradient at the "
    "decoder's last layer is all but 0, so it does not look at the image. Use discriminator.init "
    "generative_encoder, or discriminator.features tokens."
)


def non_finite(values: Tensor) -> Tensor:
    """bool () on the device: true if any value is NaN or infinite. Waits for nothing.

    Meant for the loss terms and the gradient norm; `Optimizers.step(skip=...)` takes the answer.
    """
    return ~torch.isfinite(values).all()
