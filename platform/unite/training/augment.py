"""Augmentation before a discriminator of images, addressed per image (METHOD 6).

DiffAug (Zhao, Liu, Lin, Zhu, Han, NeurIPS 2020): random shift, brightness, saturation and contrast,
by operations that pass gradients on. The same keys give a real image and its reconstruction the
same change. Shapes: B batch, C channels, H height, W width; images in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor

from unite.config.finetune import DiscriminatorConfig
from unite.flow.random import uniform

BRIGHTNESS = 0.5
"""Width of the brightness change: up to a quarter of the range, up or down."""
NUM_DRAWS = 6
"""Uniform numbers of an image: whether, two shifts, brightness, saturation, contrast."""


def augment(images_BCHW: Tensor, keys_B: Tensor, config: DiscriminatorConfig) -> Tensor:
    """Augmented images (B, C, H, W); the draws depend on the keys alone."""
    if config.augment_probability == 0:
        return images_BCHW
    draws_BD = uniform(keys_B, (NUM_DRAWS,))
    changed_BCHW = images_BCHW
    if config.augment_colour:
        changed_BCHW = _colour(changed_BCHW, *draws_BD[:, 3:].unbind(1))
    if config.augment_shift:
        changed_BCHW = _shift(changed_BCHW, draws_BD[:, 1:3], config.augment_shift)
    gate_B = draws_BD[:, 0] < config.augment_probability
    return torch.where(gate_B[:, None, None, None], changed_BCHW, images_BCHW)


def _colour(
    x_BCHW: Tensor, brightness_B: Tensor, saturation_B: Tensor, contrast_B: Tensor
) -> Tensor:
    """Brightness + U(-1/4, 1/4), saturation x U(0, 2), contrast x U(1/2, 3/2)."""
    brightness, saturation, contrast = (
        draw_B[:, None, None, None] for draw_B in (brightness_B, saturation_B, contrast_B)
    )
    x_BCHW = x_BCHW + BRIGHTNESS * (brightness - 0.5)
    grey_B1HW = x_BCHW.mean(dim=1, keepdim=True)
    x_BCHW = grey_B1HW + 2.0 * saturation * (x_BCHW - grey_B1HW)
    mean_B111 = x_BCHW.mean(dim=(1, 2, 3), keepdim=True)
    return mean_B111 + (0.5 + contrast) * (x_BCHW - mean_B111)


def _shift(x_BCHW: Tensor, draws_B2: Tensor, share: float) -> Tensor:
    """Each image moved by whole pixels, up to `share` of its sides; zeros come in."""
    height, width = x_BCHW.shape[-2:]
    reach = torch.tensor([round(share * side) for side in (height, width)])
    reach = reach.to(x_BCHW.device, non_blocking=True)
    moved_B2 = ((2 * reach + 1) * draws_B2).floor().long() - reach
    rows_BH = torch.arange(height, device=x_BCHW.device) - moved_B2[:, :1]
    columns_BW = torch.arange(width, device=x_BCHW.device) - moved_B2[:, 1:]
    inside_BHW = _inside(rows_BH, height)[:, :, None] & _inside(columns_BW, width)[:, None, :]
    source_BHW = rows_BH[:, :, None] * width + columns_BW[:, None, :]
    source_BP = torch.where(inside_BHW, source_BHW, 0).flatten(1)
    taken_BCP = x_BCHW.flatten(2).gather(2, source_BP[:, None].expand(-1, x_BCHW.shape[1], -1))
    return torch.where(inside_BHW[:, None], taken_BCP.view_as(x_BCHW), 0.0)


def _inside(index: Tensor, size: int) -> Tensor:
    return (index >= 0) & (index < size)
