"""Operations between the matrix products of a block, in one pass over memory where a GPU can.

Each operation has a plain torch form (`plain.py`) and a Triton kernel with a backward of its own
(`norms.py`, `rotary.py`, `gates.py`); `fused` chooses. Both agree to rounding: kernels
accumulate in float32 (float64 for float64). Triton is imported only where a kernel is used.
"""

from __future__ import annotations

import torch
from torch import Tensor

from unite.models.kernels import plain

TensorPair = tuple[Tensor, Tensor]


def gate_norm(
    x_BSH: Tensor,
    branch: TensorPair | None,
    weight: Tensor,
    modulation: TensorPair | None,
    eps: float,
    *,
    fused: bool = False,
    final: bool = False,
) -> TensorPair:
    """Residual x + gate * branch (B, S, H), and its RMSNorm, modulated where asked.

    `branch` is (gate (B, H), branch (B, S, H)), `modulation` (shift, scale), both (B, H). The plain
    form's result is at least float32. The kernel's has the precision of the next matrix product,
    and is float32 as well where it is `final`, the stream that goes on.
    """
    if not fused:
        return plain.gate_norm(x_BSH, branch, weight, modulation, eps)
    from unite.models.kernels import norms

    dtype = torch.promote_types(x_BSH.dtype, torch.float32)
    device = x_BSH.device.type
    if not final and torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
    return norms.gate_norm(x_BSH, branch, weight, modulation, eps, dtype)


def qk_norm_rope(
    qkv: Tensor, weight: Tensor, table: Tensor, eps: float, *, fused: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """qkv (B, S, 3, N, E) -> q, k, v (B, N, S, E): RMSNorm per head and rotary of q and k.

    `weight` (2, E) holds the norms' weights; `table` (2, S, E / 2) cosines and sines.
    """
    if not fused:
        return plain.qk_norm_rope(qkv, weight, table, eps)
    from unite.models.kernels import rotary

    return rotary.qk_norm_rope(qkv, weight, table, eps)


def swiglu(gate_value: Tensor, *, fused: bool = False) -> Tensor:
    """silu(gate) * value of (..., 2 F), which holds gate, then value."""
    if not fused:
        return plain.swiglu(gate_value)
    from unite.models.kernels import gates

    return gates.swiglu(gate_value)
