"""Seeds, one per sample, and the conditions that samples are drawn under: class and size.

The noise and the size, and thereby the sample, are functions of its seed and its class.
Shapes: B samples, K registers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unite.domains.sizes import mask_of
from unite.flow.random import Purpose, normal, stream_keys, uniform
from unite.models.unite import UNITE

NOISE_ADDRESS = 0
"""Start of the addresses of sampling noise; only the sample's own seed is added."""


def sample_noise(seeds_B: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The N(0, I) start of each sample from its seed (int64): float32 (B, *shape)."""
    return normal(stream_keys(NOISE_ADDRESS, int(Purpose.SAMPLE), seeds_B), shape)


def sample_seeds(seed: int, indices_B: Tensor) -> Tensor:
    """Seeds of the samples `indices_B` of the set named by `seed`; sets share no seeds."""
    return stream_keys(seed, int(Purpose.SAMPLE), indices_B.long())


def fresh_seeds(num: int) -> Tensor:
    """Random seeds from torch's global generator."""
    return torch.randint(2**63 - 1, (num,))


def labels_in_turn(indices_B: Tensor, num_classes: int) -> Tensor:
    """Class of each sample of a set by its index: 0, 1, 2, ... in turn; 0 = null without classes"""
    return indices_B % max(num_classes, 1)


def uniform_labels(num: int, num_classes: int, seed: int) -> Tensor:
    """Random classes, each addressed by (seed, index), so any range of them can be made alone."""
    keys = stream_keys(seed, int(Purpose.SAMPLE_LABEL), torch.arange(num))
    return (uniform(keys).double() * num_classes).long()


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Class and registers of samples to be drawn."""

    labels_B: Tensor
    """Classes (int64, CPU); the null class means none."""
    mask_BK: Tensor | None
    """Registers in use, on the seeds' device; None = all."""


def conditions(
    model: UNITE,
    seeds_B: Tensor,
    *,
    labels_B: Tensor | Sequence[int] | None = None,
    sizes_B: Tensor | Sequence[int] | None = None,
) -> Conditions:
    """Conditions of samples by their seeds (int64): the given classes, or the null class; the
    given sizes, or sizes drawn as often as the training set has them.

    A drawn size is a function of the sample's seed and the model's statistics. ValueError for
    classes and sizes that the model does not have.
    """
    num = len(seeds_B)
    if labels_B is None:
        labels_B = torch.full((num,), model.null_label)
    labels_B = check_labels(torch.as_tensor(labels_B), model)
    if len(labels_B) != num:
        raise ValueError(
            f"seeds_B has shape {tuple(seeds_B.shape)}, but there are {len(labels_B)} labels"
        )
    drawn_BK = _drawn_mask(model, seeds_B, labels_B)
    if sizes_B is None:
        return Conditions(labels_B=labels_B, mask_BK=drawn_BK)
    if drawn_BK is None:
        raise ValueError("sizes have no effect: all samples of this model have one size")
    return Conditions(labels_B=labels_B, mask_BK=_mask_of(torch.as_tensor(sizes_B), drawn_BK))


def _drawn_mask(model: UNITE, seeds_B: Tensor, labels_B: Tensor) -> Tensor | None:
    keys_B = stream_keys(NOISE_ADDRESS, int(Purpose.SAMPLE_SIZE), seeds_B)
    statistics = {name: each.to(keys_B.device) for name, each in model.statistics.tensors.items()}
    try:
        return model.domain.draw_mask(keys_B, statistics, labels_B.to(keys_B.device))
    except KeyError as error:
        raise ValueError(
            f"the model does not know the {error.args[0]} of its training set, so no sizes can be "
            "drawn: it was not trained"
        ) from error


def _mask_of(sizes_B: Tensor, like_BK: Tensor) -> Tensor:
    most = like_BK.shape[1]
    if sizes_B.shape != like_BK.shape[:1]:
        raise ValueError(f"{len(sizes_B)} sizes were given for {len(like_BK)} samples")
    wrong = sizes_B[(sizes_B < 1) | (sizes_B > most)]
    if len(wrong):
        raise ValueError(f"size {wrong[0].item()}: the model makes samples of 1 to {most}")
    return mask_of(sizes_B.to(like_BK.device), most)


def check_labels(labels_B: Tensor, model: UNITE) -> Tensor:
    """The labels as int64; ValueError for what are no classes of the model, one per sample."""
    if labels_B.dim() != 1 or not len(labels_B) or labels_B.is_floating_point():
        raise ValueError(
            f"labels_B must hold one integer per sample, not {labels_B.dtype} of shape "
            f"{tuple(labels_B.shape)}"
        )
    bad = labels_B[(labels_B < 0) | (labels_B > model.null_label)]
    if len(bad):
        num = model.domain.num_classes
        there = f"labels are 0..{num - 1}, and {num} means no class" if num else "0 means no class"
        raise ValueError(
            f"labels_B holds {bad[0].item()}, but the model has {num} classes: {there}"
        )
    return labels_B.long()
