"""The layers that the Generative Encoder and the decoder are made of (METHOD 1 and 2).

Shapes: B batch, S sequence, H width, E head width. Each block is one full graph for torch.compile.
Below bf16 autocast the residual stream, the norms and the rotary embedding stay float32; the
matrix products run in bf16.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from unite.models.kernels import TensorPair, gate_norm, qk_norm_rope, swiglu
from unite.models.kernels.plain import rms_norm
from unite.models.positions import rotate

INIT_STD = 0.02
"""Standard deviation of the embeddings' initial values."""


def float32_island(x: Tensor) -> AbstractContextManager[object]:
    """Context without autocast on the device of `x`, for small layers that need full precision."""
    if not torch.amp.is_autocast_available(x.device.type):
        return nullcontext()  # The meta device has no autocast to switch off.
    return torch.autocast(x.device.type, enabled=False)


def run_block(block: nn.Module, recompute: bool, *args: Tensor | None) -> Tensor:
    """block(*args); with `recompute`, activations are dropped and computed again in the backward.

    No block draws random numbers, so the generator's state is not saved (that would synchronise).
    """
    if recompute and torch.is_grad_enabled():
        return checkpoint(block, *args, use_reentrant=False, preserve_rng_state=False)
    return block(*args)


def initialise_linear(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases for a Linear; for use with `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def zero_linear(module: nn.Linear) -> None:
    """Set weights and biases to zero."""
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)


def normal_values(*shape: int, std: float = INIT_STD) -> Tensor:
    """Initial values from N(0, std); none on the meta device, where drawing imports a compiler."""
    values = torch.empty(shape)
    return values if values.is_meta else values.normal_(std=std)


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last axis, learned weight, computed in at least float32."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., H); the result is float32 (float64 for float64 input)."""
        return rms_norm(x, self.weight, self.eps)


class SwiGLU(nn.Module):
    """Gated MLP: out(silu(gate) * value), gate and value from one fused Linear."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate_value = nn.Linear(width, 2 * hidden)
        self.out = nn.Linear(hidden, width)
        self.fused = False

    def forward(self, x_BSH: Tensor) -> Tensor:
        """(B, S, H) -> (B, S, H)."""
        return self.out(swiglu(self.gate_value(x_BSH), fused=self.fused))


class Attention(nn.Module):
    """Multi-head self-attention: fused qkv, optional per-head RMSNorm of q and k, rotary."""

    def __init__(self, width: int, num_heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        if width % num_heads:
            raise ValueError(f"num_heads = {num_heads} does not divide width = {width}")
        self.head_width = width // num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.q_norm = RMSNorm(self.head_width) if qk_norm else nn.Identity()
        self.k_norm = RMSNorm(self.head_width) if qk_norm else nn.Identity()
        self.proj = nn.Linear(width, width)
        self.fused = False

    def forward(
        self, x_BSH: Tensor, rotary: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(B, S, H) -> (B, S, H).

        `rotary` is (2, S, E / 2). `mask` broadcasts to (B, heads, S, S): bool (True = may be
        attended to) or a float bias of the logits.
        """
        qkv = self.qkv(x_BSH).unflatten(-1, (3, -1, self.head_width))
        q_norm, k_norm = self.q_norm, self.k_norm
        if rotary is not None and isinstance(q_norm, RMSNorm) and isinstance(k_norm, RMSNorm):
            weight = torch.stack([q_norm.weight, k_norm.weight])
            q, k, v = qk_norm_rope(qkv, weight, rotary, q_norm.eps, fused=self.fused)
        else:
            q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
            q, k = q_norm(q), k_norm(k)
            if rotary is not None:
                q, k = rotate(q, rotary), rotate(k, rotary)
        if mask is not None and mask.is_floating_point():
            mask = mask.to(v.dtype)
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, attn_mask=mask)
        return self.proj(mixed.transpose(1, 2).flatten(2))


class GenerativeBlock(nn.Module):
    """adaLN block with a third norm on the residual stream (METHOD 1)."""

    def __init__(self, width: int, num_heads: int, mlp_hidden: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attention = Attention(width, num_heads, qk_norm=qk_norm)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width, mlp_hidden)
        self.norm3 = RMSNorm(width)
        self.modulation = nn.Linear(width, 6 * width)
        self.fused = False
        self.apply(initialise_linear)
        zero_linear(self.modulation)

    def forward(
        self, x_BSH: Tensor, condition_BH: Tensor, rotary: Tensor | None, mask: Tensor | None
    ) -> Tensor:
        """(B, S, H) -> (B, S, H); `condition_BH` is SiLU(c), which all blocks share."""
        modulation = self.modulation(condition_BH).chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        _, h_BSH = self._norm(x_BSH, None, self.norm1, (shift1, scale1))
        branch = gate1, self.attention(h_BSH, rotary, mask)
        x_BSH, h_BSH = self._norm(x_BSH, branch, self.norm2, (shift2, scale2))
        return self._norm(x_BSH, (gate2, self.mlp(h_BSH)), self.norm3, None)[1]

    def _norm(
        self, x_BSH: Tensor, branch: TensorPair | None, norm: RMSNorm, modulation: TensorPair | None
    ) -> TensorPair:
        return gate_norm(
            x_BSH,
            branch,
            norm.weight,
            modulation,
            norm.eps,
            fused=self.fused,
            final=modulation is None,
        )


class DecoderBlock(nn.Module):
    """Plain pre-LayerNorm ViT block (METHOD 2)."""

    def __init__(self, width: int, num_heads: int, mlp_width: int, eps: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attention = Attention(width, num_heads, qk_norm=False)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.up = nn.Linear(width, mlp_width)
        self.down = nn.Linear(mlp_width, width)

    def forward(self, x_BSH: Tensor, mask: Tensor | None) -> Tensor:
        """(B, S, H) -> (B, S, H)."""
        x_BSH = x_BSH + self.attention(self.norm1(x_BSH), mask=mask)
        return x_BSH + self.down(F.gelu(self.up(self.norm2(x_BSH))))
