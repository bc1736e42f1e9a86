"""The ViT decoder (METHOD 2): latent to hidden tokens; the domain's head makes a reconstruction.

Shapes: B batch, K registers, D latent channels, H width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite.config.schema import DecoderConfig
from unite.models.blocks import (
    DecoderBlock,
    float32_island,
    initialise_linear,
    normal_values,
    run_block,
)

LAYER_NORM_EPS = 1e-12
"""Epsilon of every LayerNorm in the decoder."""


class Decoder(nn.Module):
    """Two input projections, a class token, ViT blocks, a norm and the domain's head.

    `positions_KH` is the frozen position table (None for domains that have none); `head` maps
    (tokens (B, K, H), mask (B, K) or None) to the reconstruction, in float32.
    `checkpoint_blocks` recomputes blocks in the backward pass.
    """

    positions: Tensor | None

    def __init__(
        self,
        config: DecoderConfig,
        *,
        latent_dim: int,
        positions_KH: Tensor | None,
        head: nn.Module,
    ) -> None:
        super().__init__()
        self.config = config
        self.checkpoint_blocks = False
        self.stem = nn.Linear(latent_dim, config.stem_width)
        self.input = nn.Linear(config.stem_width, config.width)
        self.class_token = nn.Parameter(normal_values(config.width))
        self.register_buffer("positions", positions_KH)
        self.blocks = nn.ModuleList(
            DecoderBlock(config.width, config.num_heads, config.mlp_width, LAYER_NORM_EPS)
            for _ in range(config.depth)
        )
        self.norm = nn.LayerNorm(config.width, eps=LAYER_NORM_EPS)
        self.head = head
        self.apply(initialise_linear)

    def forward(self, z_BKD: Tensor, mask_BK: Tensor | None = None) -> Tensor:
        """The head's reconstruction of the latent (B, K, D); `mask_BK` is True at real tokens."""
        with float32_island(z_BKD):
            x_BKH = self.stem(z_BKD.to(self.stem.weight.dtype))
        x_BKH = self.input(x_BKH)
        if self.positions is not None:
            x_BKH = x_BKH + self.positions[: x_BKH.shape[1]]
        class_token = self.class_token.expand(x_BKH.shape[0], 1, -1)
        x_BSH = torch.cat([class_token, x_BKH.to(class_token.dtype)], dim=1)
        mask = None
        if mask_BK is not None:
            mask = F.pad(mask_BK, (1, 0), value=True)[:, None, None, :]
        for block in self.blocks:
            x_BSH = run_block(block, self.checkpoint_blocks, x_BSH, mask)
        with float32_island(x_BSH):
            return self.head(self.norm(x_BSH[:, 1:]), mask_BK)
