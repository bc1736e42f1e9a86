"""The Generative Encoder (METHOD 1): one transformer that tokenizes and denoises.

Tokenization: the latent is noise and the sample's tokens follow the registers. Generation: the
latent is z_t and there are no tokens. Shapes: B batch, K registers, D latent channels, N tokens of
the sample (patches), T in-context class tokens, S sequence, H width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite.config.schema import EncoderConfig
from unite.models.blocks import (
    GenerativeBlock,
    RMSNorm,
    float32_island,
    initialise_linear,
    normal_values,
    run_block,
    zero_linear,
)
from unite.models.kernels.plain import modulate
from unite.models.positions import rotary_table, sincos_1d

NUM_FREQUENCIES = 256
"""Frozen Gaussian frequencies of the time embedding."""


def swiglu_hidden(width: int, mlp_ratio: float) -> int:
    """Hidden width of SwiGLU: two thirds of a plain MLP's, so that both cost the same."""
    return int(width * mlp_ratio) * 2 // 3


class TimeEmbedding(nn.Module):
    """Gaussian Fourier features of t in [0, 1], then a two-layer MLP."""

    frequencies: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", normal_values(NUM_FREQUENCIES, std=1.0))
        self.hidden = nn.Linear(2 * NUM_FREQUENCIES, width)
        self.out = nn.Linear(width, width)
        for linear in (self.hidden, self.out):
            linear.weight = nn.Parameter(normal_values(*linear.weight.shape))
            nn.init.zeros_(linear.bias)

    def forward(self, t_B: Tensor) -> Tensor:
        """(B,) -> (B, H)."""
        angles = 2 * math.pi * t_B.to(self.frequencies.dtype)[:, None] * self.frequencies
        return self.out(F.silu(self.hidden(torch.cat([angles.sin(), angles.cos()], dim=1))))


class FinalLayer(nn.Module):
    """RMSNorm, adaLN and the projection to the latent width."""

    def __init__(self, width: int, latent_dim: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width)
        self.modulation = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, latent_dim)
        zero_linear(self.modulation)
        zero_linear(self.out)

    def forward(self, x_BKH: Tensor, condition_BH: Tensor) -> Tensor:
        """(B, K, H) -> (B, K, D)."""
        shift, scale = self.modulation(condition_BH).chunk(2, dim=-1)
        return self.out(modulate(self.norm(x_BKH), shift, scale))


class GenerativeEncoder(nn.Module):
    """Registers in, normalised latent out. `checkpoint_blocks` recomputes blocks in the backward.

    Raises ValueError when `config` cannot be built.
    """

    rotary: Tensor | None

    def __init__(
        self, config: EncoderConfig, *, num_registers: int, latent_dim: int, num_classes: int
    ) -> None:
        super().__init__()
        if config.in_context_tokens and config.in_context_start >= config.depth:
            raise ValueError(
                f"encoder.in_context_start = {config.in_context_start} is not below encoder.depth "
                f"= {config.depth}: no block would see the in-context tokens. Lower it, or set "
                "encoder.in_context_tokens to 0."
            )
        width = config.width
        self.config = config
        self.null_label = num_classes
        self.checkpoint_blocks = False
        self.input = nn.Linear(latent_dim, width)
        initialise_linear(self.input)
        self.registers = nn.Parameter(sincos_1d(num_registers, width)[None])
        self.time = TimeEmbedding(width)
        # The last row is unused: it exists for the checkpoints' sake.
        table = normal_values(num_classes + 2, width)
        self.classes = nn.Embedding.from_pretrained(table, freeze=False)
        self.in_context = self._in_context_table()
        self.pair_bias = self._pair_bias_table()
        hidden = swiglu_hidden(width, config.mlp_ratio)
        self.blocks = nn.ModuleList(
            GenerativeBlock(width, config.num_heads, hidden, qk_norm=config.qk_norm)
            for _ in range(config.depth)
        )
        self.final = FinalLayer(width, latent_dim)
        self.norm = nn.LayerNorm(latent_dim)
        self.register_buffer("rotary", self._rotary_table(num_registers), persistent=False)

    def _in_context_table(self) -> nn.Parameter | None:
        if not self.config.in_context_tokens:
            return None
        return nn.Parameter(normal_values(1, self.config.in_context_tokens, self.config.width))

    def _pair_bias_table(self) -> nn.Parameter | None:
        """Biases between register i and token i, (depth, heads), all of one initial value."""
        config = self.config
        if not config.pair_bias:
            return None
        return nn.Parameter(torch.full((config.depth, config.num_heads), config.pair_bias))

    def _rotary_table(self, num_registers: int) -> Tensor | None:
        # A sample has at most as many tokens as there are registers.
        config = self.config
        if not config.rotary:
            return None
        head_width = config.width // config.num_heads
        return rotary_table(2 * num_registers, head_width, config.in_context_tokens)

    def forward(
        self,
        latent_BKD: Tensor,
        t_B: Tensor,
        labels_B: Tensor,
        tokens_BNH: Tensor | None = None,
        *,
        mask_BK: Tensor | None = None,
        token_mask_BN: Tensor | None = None,
        activations: list[Tensor] | None = None,
    ) -> Tensor:
        """The latent after the final LayerNorm, (B, K, D); zero where `mask_BK` is False.

        t_B in [0, 1]; labels_B int64, `null_label` for none. Masks are True at real registers and
        tokens. A list given as `activations` receives each block's sequence without in-context
        tokens: registers, then the sample's tokens, (B, K + N, H).
        """
        num_registers = latent_BKD.shape[1]
        with float32_island(latent_BKD):
            x_BSH = self.input(latent_BKD.to(self.input.weight.dtype))
            x_BSH = x_BSH + self.registers[:, :num_registers]
            class_BH = self.classes(labels_B)
            condition_BH = F.silu(self.time(t_B) + class_BH)
        mask_BS = _join_masks(latent_BKD, mask_BK, tokens_BNH, token_mask_BN)
        if tokens_BNH is not None:
            x_BSH = torch.cat([x_BSH, tokens_BNH.to(x_BSH.dtype)], dim=1)
        x_BKH = self._run_blocks(x_BSH, condition_BH, class_BH, mask_BS, num_registers, activations)
        with float32_island(x_BKH):
            latent_BKD = self.norm(self.final(x_BKH, condition_BH))
        return latent_BKD if mask_BK is None else latent_BKD * mask_BK[..., None]

    def _run_blocks(
        self,
        x_BSH: Tensor,
        condition_BH: Tensor,
        class_BH: Tensor,
        mask_BS: Tensor | None,
        num_registers: int,
        activations: list[Tensor] | None,
    ) -> Tensor:
        """Run all blocks; returns the registers (B, K, H) without in-context and sample tokens."""
        start = 0
        rotary = self._rotary_rows(x_BSH, start, num_registers)
        mask = _attention_mask(mask_BS, start)
        for index, block in enumerate(self.blocks):
            if self.in_context is not None and index == self.config.in_context_start:
                x_BSH = torch.cat([class_BH[:, None] + self.in_context, x_BSH], dim=1)
                start = self.config.in_context_tokens
                rotary = self._rotary_rows(x_BSH, start, num_registers)
                mask = _attention_mask(mask_BS, start)
            biased = self._with_pair_bias(mask, index, x_BSH.shape[1], start, num_registers)
            x_BSH = run_block(block, self.checkpoint_blocks, x_BSH, condition_BH, rotary, biased)
            if activations is not None:
                activations.append(x_BSH[:, start:])
        return x_BSH[:, start : start + num_registers]

    def _with_pair_bias(
        self, mask: Tensor | None, index: int, length: int, start: int, num_registers: int
    ) -> Tensor | None:
        """The key mask of block `index` with its pair bias, (B or 1, heads, S, S).

        The mask alone where there is no bias, or no token beside the registers.
        """
        num_tokens = length - start - num_registers
        if self.pair_bias is None or not num_tokens:
            return mask
        bias_h = self.pair_bias[index]
        end = start + min(num_tokens, num_registers)
        pattern_SS = bias_h.new_zeros(length, length)
        for offset in (num_registers, -num_registers):
            # An assignment by index makes torch before 2.15 copy the number from the host and wait.
            pattern_SS.diagonal(offset)[start:end].fill_(1.0)
        bias_1hSS = (bias_h[:, None, None] * pattern_SS)[None]
        return bias_1hSS if mask is None else bias_1hSS.masked_fill(~mask, -torch.inf)

    def _rotary_rows(self, x_BSH: Tensor, num_in_context: int, num_registers: int) -> Tensor | None:
        """The rotary table's rows for a sequence of in-context tokens, registers and tokens.

        Tokens have the positions from the config's K on, however many registers there are here, so
        that a sample's own do not depend on the padding of its batch.
        """
        if self.rotary is None:
            return None
        most = self.registers.shape[1]
        num_tokens = x_BSH.shape[1] - num_in_context - num_registers
        if num_tokens > most:
            raise ValueError(
                f"a sequence of {x_BSH.shape[1]} is longer than the rotary table: the sample has "
                f"more tokens than there are registers ({most})"
            )
        zero = self.config.in_context_tokens
        rows = self.rotary[:, zero - num_in_context : zero + num_registers]
        if num_tokens:
            tokens = self.rotary[:, zero + most : zero + most + num_tokens]
            rows = torch.cat([rows, tokens], dim=1)
        return rows.to(x_BSH.device)


def _join_masks(
    latent_BKD: Tensor,
    mask_BK: Tensor | None,
    tokens_BNH: Tensor | None,
    token_mask_BN: Tensor | None,
) -> Tensor | None:
    """The key mask (B, S) of registers and tokens; None when nothing is padded."""
    if mask_BK is None and token_mask_BN is None:
        return None
    parts = [(latent_BKD, mask_BK)]
    if tokens_BNH is not None:
        parts.append((tokens_BNH, token_mask_BN))
    return torch.cat(
        [
            torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
            for x, mask in parts
        ],
        dim=1,
    )


def _attention_mask(mask_BS: Tensor | None, num_in_context: int) -> Tensor | None:
    """The key mask as attention wants it, with in-context tokens (never padded) in front."""
    if mask_BS is None:
        return None
    return F.pad(mask_BS, (num_in_context, 0), value=True)[:, None, None, :]
