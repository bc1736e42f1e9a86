"""Square images with class labels, the first domain (METHOD 1-3).

A sample is a float tensor (B, C, H, W) in [0, 1]. Shapes: B batch, C channels, N patches, K = N
registers, H width (of tensors of tokens) or height (of images), P pixels of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unite.config.schema import EncoderConfig, ImagesConfig, LossConfig, ModelConfig
from unite.domains.base import BadRows, Domain
from unite.domains.columns import IMAGES
from unite.domains.image_error import l1, psnr
from unite.domains.transforms import decode_image
from unite.flow.random import uniform
from unite.models.positions import sincos_2d
from unite.words import count


class PatchEmbed(nn.Module):
    """Non-overlapping patches through one convolution, plus a frozen position table."""

    positions: Tensor

    def __init__(self, config: ImagesConfig, width: int, positions_NH: Tensor) -> None:
        super().__init__()
        self.shape = (config.channels, config.size, config.size)
        self.projection = nn.Conv2d(config.channels, width, config.patch, stride=config.patch)
        self.register_buffer("positions", positions_NH)
        nn.init.xavier_uniform_(self.projection.weight.view(width, -1))
        self.projection.bias = nn.Parameter(torch.zeros(width))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, H), patches in row-major order; ValueError for other images."""
        if image_BCHW.shape[1:] != self.shape or not image_BCHW.is_floating_point():
            raise ValueError(
                f"images are float in [0, 1], (B, {', '.join(map(str, self.shape))}); these are "
                f"{image_BCHW.dtype}, {tuple(image_BCHW.shape)}"
            )
        return self.projection(image_BCHW).flatten(2).transpose(1, 2) + self.positions


class PatchHead(nn.Module):
    """Linear layer from each token to its patch of pixels, then the patches in their places."""

    def __init__(self, config: ImagesConfig, width: int) -> None:
        super().__init__()
        self.patch, self.channels = config.patch, config.channels
        self.out = nn.Linear(width, config.patch**2 * config.channels)

    def forward(self, x_BNH: Tensor, mask_BN: Tensor | None = None) -> Tensor:
        """(B, N, H) -> (B, C, H, W). Images have no padding: a mask raises ValueError."""
        if mask_BN is not None:
            raise ValueError("images use every register: decode them without a mask")
        patch = self.patch
        x_BNP = self.out(x_BNH)
        side = round(x_BNP.shape[1] ** 0.5)
        grid = x_BNP.unflatten(2, (patch, patch, self.channels)).unflatten(1, (side, side))
        # (B, rows, columns, y, x, C) -> (B, C, rows, y, columns, x)
        return grid.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)


class ImagesDomain(Domain):
    """Images of one size: the bytes of image files, and class labels."""

    name = "images"
    noun = "image"
    best_metric = "psnr"
    columns = IMAGES
    adversarial = True

    def __init__(self, config: ImagesConfig) -> None:
        if config.size % config.patch:
            raise ValueError(
                f"domain.patch = {config.patch} does not divide domain.size = {config.size}"
            )
        if config.channels not in (1, 3):
            raise ValueError(f"domain.channels = {config.channels}: use 3 (RGB) or 1 (grey)")
        self.config = config
        self.num_classes = config.num_classes
        self.side = config.size // config.patch
        self.perceptual_side = config.size

    def validate(self, model: ModelConfig) -> None:
        """The decoder places one register per patch, so K must be N."""
        num_patches = self.side**2
        if model.num_registers != num_patches:
            raise ValueError(
                f"model.num_registers = {model.num_registers}, but images of {self.config.size} "
                f"pixels in patches of {self.config.patch} need {num_patches}"
            )

    def num_tokens(self, model: ModelConfig) -> int:
        """Number of patches: one token for each."""
        return self.side**2

    def build_embedder(self, width: int, config: EncoderConfig) -> nn.Module:
        """Patch embedding with zero positions (as released) or 2-D sin-cos positions."""
        if config.patch_positions == "zeros":
            positions_NH = torch.zeros(self.side**2, width)
        else:
            positions_NH = sincos_2d(self.side, width)
        return PatchEmbed(self.config, width, positions_NH)

    def build_head(self, width: int) -> nn.Module:
        """Linear to patches of pixels."""
        return PatchHead(self.config, width)

    def decoder_positions(self, width: int) -> Tensor:
        """2-D sin-cos positions of the patches, (N, H)."""
        return sincos_2d(self.side, width)

    def decode_rows(
        self, rows: Mapping[str, Sequence[Any]]
    ) -> tuple[dict[str, np.ndarray], BadRows]:
        """Columns `image` (file bytes, or a dict with `bytes`) and `label` to uint8 and int64."""
        size, channels = self.config.size, self.config.channels
        images = np.zeros((len(rows["image"]), size, size, channels), np.uint8)
        labels = np.zeros(len(rows["label"]), np.int64)
        bad: BadRows = []
        for position, (data, label) in enumerate(zip(rows["image"], rows["label"], strict=True)):
            try:
                labels[position] = self._check_label(label)
                images[position] = decode_image(_image_bytes(data), size, channels)
            except ValueError as error:
                labels[position] = 0
                bad.append((position, str(error)))
        return {"image": images, "label": labels}, bad

    def _check_label(self, label: Any) -> int:
        if not isinstance(label, int | np.integer) or not 0 <= label < self.num_classes:
            raise ValueError(f"label {label!r} is not an integer in 0..{self.num_classes - 1}")
        return int(label)

    def to_sample(self, fields: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        """uint8 (B, H, W, C) to float (B, C, H, W) in [0, 1], and the labels."""
        image_BCHW = fields["image"].permute(0, 3, 1, 2).contiguous().float() / 255
        return image_BCHW, fields["label"].long()

    def example_fields(self, num: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Random pixels and classes."""
        shape = (num, self.config.size, self.config.size, self.config.channels)
        return {
            "image": generator.integers(256, size=shape, dtype=np.uint8),
            "label": generator.integers(self.num_classes, size=num),
        }

    def augment(self, sample: Tensor, keys_B: Tensor) -> Tensor:
        """Mirror each image left to right with probability one half."""
        if not self.config.flip:
            return sample
        flipped_B = uniform(keys_B, (1, 1, 1)) < 0.5
        return torch.where(flipped_B, sample.flip(-1), sample)

    def reconstruction_terms(
        self,
        reconstruction: Tensor,
        sample: Tensor,
        loss: LossConfig,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> dict[str, Tensor]:
        """`l1`, and `lpips` when its weight is not 0 (METHOD 3, step 3).

        `perceptual` maps two RGB batches in [0, 1] to distances. ValueError when it is missing.
        """
        reconstruction = reconstruction.float()
        terms = {"l1": (reconstruction - sample).abs().mean()}
        if loss.perceptual.weight:
            if perceptual is None:
                raise ValueError("loss.perceptual.weight is not 0, but no LPIPS network was given")
            terms["lpips"] = perceptual(_rgb(reconstruction), _rgb(sample)).mean()
        return terms

    def reconstruction_loss(self, terms: Mapping[str, Tensor], loss: LossConfig) -> Tensor:
        """reconstruction_weight * (L1 + w_p * LPIPS)."""
        total = terms["l1"]
        if "lpips" in terms:
            total = total + loss.perceptual.weight * terms["lpips"]
        return loss.reconstruction_weight * total

    def reconstruction_metrics(self, reconstruction: Tensor, sample: Tensor) -> dict[str, Tensor]:
        """PSNR in dB and mean absolute error of each image, after clamping to [0, 1]."""
        return {"psnr": psnr(reconstruction, sample), "l1": l1(reconstruction, sample)}

    def render(self, reconstruction: Tensor, mask_BK: Tensor | None = None) -> Tensor:
        """uint8 (B, H, W, C): clamp to [0, 1], then x * 255 truncated (METHOD 4)."""
        pixels = (reconstruction.float().clamp(0, 1) * 255).to(torch.uint8)
        return pixels.permute(0, 2, 3, 1).contiguous()

    def facts(self) -> dict[str, str]:
        """Size, channels, classes and patch in one line."""
        config = self.config
        channels = count(config.channels, "channel")
        classes = count(config.num_classes, "class", "classes")
        return {"images": f"{config.size} px, {channels}, {classes}, patch {config.patch}"}


def _image_bytes(data: Any) -> bytes:
    """Bytes of an image cell: the bytes themselves, or a Hugging Face image struct."""
    if isinstance(data, Mapping):
        data = data.get("bytes")
    if not isinstance(data, bytes):
        raise ValueError(f"the image cell holds {type(data).__name__}, not the bytes of a file")
    return data


def _rgb(image_BCHW: Tensor) -> Tensor:
    return image_BCHW.expand(-1, 3, -1, -1) if image_BCHW.shape[1] == 1 else image_BCHW
