"""The kernels' plain torch forms: their reference, the CPU's path, and the fallback of a GPU.

Norms compute in at least float32, whatever autocast says.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from unite.models.positions import rotate


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x (..., H) over its root mean square, times `weight` (H,), in at least float32."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    return F.rms_norm(x, weight.shape, weight, eps)


def modulate(x_BSH: Tensor, shift_BH: Tensor, scale_BH: Tensor) -> Tensor:
    """adaLN: x * (1 + scale) + shift, one shift and scale for all tokens of a sample."""
    return x_BSH * (1 + scale_BH[:, None]) + shift_BH[:, None]


def gate_norm(
    x_BSH: Tensor,
    branch: tuple[Tensor, Tensor] | None,
    weight: Tensor,
    modulation: tuple[Tensor, Tensor] | None,
    eps: float,
) -> tuple[Tensor, Tensor]:
    """Residual x + gate * branch, and its RMSNorm, modulated where (shift, scale) are given."""
    if branch is not None:
        x_BSH = x_BSH + branch[0][:, None] * branch[1]
    result = rms_norm(x_BSH, weight, eps)
    return x_BSH, result if modulation is None else modulate(result, *modulation)


def qk_norm_rope(
    qkv: Tensor, weight: Tensor, rotary: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """qkv (B, S, 3, N, E) -> q, k, v (B, N, S, E): RMSNorm per head and rotary of q and k."""
    q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
    q, k = (rotate(rms_norm(x, w, eps), rotary) for x, w in ((q, weight[0]), (k, weight[1])))
    return q.to(v.dtype), k.to(v.dtype), v


def swiglu(gate_value: Tensor) -> Tensor:
    """silu(gate) * value of (..., 2 F), which holds gate, then value."""
    gate, value = gate_value.chunk(2, dim=-1)
    return F.silu(gate) * value
