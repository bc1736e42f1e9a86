"""Queries, keys and values from one product: per-head RMSNorm and rotary of q and k in one pass.

Shapes: B batch, S sequence, N heads, E head width. `weight` (2, E) holds the norm weights of q and
k; `rotary` (2, S, E / 2) cosines and sines (`models.positions`), interleaved pairs.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 64
"""Heads of tokens that one program computes."""


def qk_norm_rope(
    qkv: Tensor, weight: Tensor, rotary: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """qkv (B, S, 3, N, E) -> q, k, v, each (B, N, S, E) in the precision of `qkv`."""
    q, k, v = _qkv(qkv.contiguous(), weight.contiguous(), rotary.contiguous(), eps)
    return q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2)


@triton.jit
def _rows(total, which, heads, width: tl.constexpr, R: tl.constexpr):
    """Rows of one program, the first value of each in qkv, and which of them exist."""
    rows = tl.program_id(0).to(tl.int64) * R + tl.arange(0, R)
    tokens, head = rows // heads, rows % heads
    return rows, tokens, tokens * (3 * heads * width) + (which * heads + head) * width, rows < total


@triton.jit
def _angles(
    rotary, tokens, exists, length, E: tl.constexpr, PAIRS: tl.constexpr, ACC: tl.constexpr
):
    """Cosines and sines (R, PAIRS) of each row's position."""
    pair = tl.arange(0, PAIRS)
    place = (tokens % length)[:, None] * (E // 2) + pair[None, :]
    inside = exists[:, None] & (pair < E // 2)[None, :]
    cos = tl.load(rotary + place, mask=inside, other=0.0).to(ACC)
    sin = tl.load(rotary + length * (E // 2) + place, mask=inside, other=0.0).to(ACC)
    return cos, sin


@triton.jit
def _forward(
    qkv, weight, rotary, q, k, v, total, length, heads, eps,
    E: tl.constexpr, PAIRS: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    which = tl.program_id(1)
    rows, tokens, base, exists = _rows(total, which, heads, E, R)
    column = tl.arange(0, 2 * PAIRS)
    inside = exists[:, None] & (column < E)[None, :]
    x = tl.load(qkv + base[:, None] + column[None, :], mask=inside, other=0.0)
    own = rows[:, None] * E + column[None, :]
    if which == 2:
        tl.store(v + own, x, mask=inside)
    else:
        # A name of its own: Triton does not let a branch change the type of a variable.
        value = x.to(ACC)
        scale = 1.0 / tl.sqrt(tl.sum(value * value, axis=1) / E + eps)
        w = tl.load(weight + which * E + column, mask=column < E, other=0.0).to(ACC)
        first, second = tl.split(tl.reshape(value * scale[:, None] * w[None, :], (R, PAIRS, 2)))
        cos, sin = _angles(rotary, tokens, exists, length, E, PAIRS, ACC)
        turned = tl.join(first * cos - second * sin, second * cos + first * sin)
        turned = tl.reshape(turned, (R, 2 * PAIRS)).to(qkv.dtype.element_ty)
        if which == 0:
            tl.store(q + own, turned, mask=inside)
        else:
            tl.store(k + own, turned, mask=inside)


@triton.jit
def _backward(
    qkv, weight, rotary, dq, dk, dv, dqkv, dweight, total, length, heads, eps,
    E: tl.constexpr, PAIRS: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    which = tl.program_id(1)
    rows, tokens, base, exists = _rows(total, which, heads, E, R)
    column = tl.arange(0, 2 * PAIRS)
    inside = exists[:, None] & (column < E)[None, :]
    own = rows[:, None] * E + column[None, :]
    there = base[:, None] + column[None, :]
    if which == 2:
        tl.store(dqkv + there, tl.load(dv + own, mask=inside, other=0.0), mask=inside)
    else:
        source = dq
        if which == 1:
            source = dk
        grad = tl.load(source + own, mask=inside, other=0.0).to(ACC)
        first, second = tl.split(tl.reshape(grad, (R, PAIRS, 2)))
        cos, sin = _angles(rotary, tokens, exists, length, E, PAIRS, ACC)
        back = tl.join(first * cos + second * sin, second * cos - first * sin)
        grad = tl.reshape(back, (R, 2 * PAIRS))
        x = tl.load(qkv + there, mask=inside, other=0.0).to(ACC)
        scale = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / E + eps)
        x = x * scale[:, None]
        part = (which * tl.num_programs(0) + tl.program_id(0)) * E + column
        tl.store(dweight + part, tl.sum(grad * x, axis=0), mask=column < E)
        w = tl.load(weight + which * E + column, mask=column < E, other=0.0).to(ACC)
        grad = grad * w[None, :]
        mean = tl.sum(grad * x, axis=1) / E
        result = scale[:, None] * (grad - x * mean[:, None])
        tl.store(dqkv + there, result.to(dqkv.dtype.element_ty), mask=inside)


@torch.library.custom_op("unite::qkv_norm_rope", mutates_args=())
def _qkv(qkv: Tensor, weight: Tensor, rotary: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """(B, S, 3, N, E) -> three (B, S, N, E); v is a copy, as an operator's output must be."""
    batch, length, _, heads, _ = qkv.shape
    q, k, v = _qkv_shapes(qkv, weight, rotary, eps)
    total = batch * length * heads
    _launch(_forward, qkv, 3, (weight, rotary, q, k, v), total, eps)
    return q, k, v


@_qkv.register_fake
def _qkv_shapes(qkv: Tensor, weight: Tensor, rotary: Tensor, eps: float):
    batch, length, _, heads, width = qkv.shape
    q, k, v = (qkv.new_empty(batch, length, heads, width) for _ in range(3))
    return q, k, v


@torch.library.custom_op("unite::qkv_norm_rope_backward", mutates_args=())
def _qkv_backward(
    qkv: Tensor, weight: Tensor, rotary: Tensor, eps: float, dq: Tensor, dk: Tensor, dv: Tensor
) -> tuple[Tensor, Tensor]:
    batch, length, _, heads, width = qkv.shape
    total = batch * length * heads
    dqkv = torch.empty_like(qkv)
    precision = torch.promote_types(qkv.dtype, torch.float32)
    parts = qkv.new_empty(2, triton.cdiv(total, ROWS), width, dtype=precision)
    _launch(_backward, qkv, 3, (weight, rotary, dq, dk, dv, dqkv, parts), total, eps)
    return dqkv, parts.sum(1).to(weight.dtype)


@_qkv_backward.register_fake
def _(qkv, weight, rotary, eps, dq, dk, dv):
    return torch.empty_like(qkv), torch.empty_like(weight)


def _launch(kernel, qkv: Tensor, kinds: int, tensors: tuple, total: int, eps: float) -> None:
    _, length, _, heads, width = qkv.shape
    acc = tl.float64 if qkv.dtype == torch.float64 else tl.float32
    pairs = triton.next_power_of_2(width) // 2
    grid = (triton.cdiv(total, ROWS), kinds)
    sizes = {"E": width, "PAIRS": pairs, "R": ROWS, "ACC": acc}
    with torch.cuda.device_of(qkv):  # Triton starts on the current device
        kernel[grid](qkv, *tensors, total, length, heads, eps, **sizes)


def _setup(ctx, inputs, output) -> None:
    qkv, weight, rotary, ctx.eps = inputs
    ctx.save_for_backward(qkv, weight, rotary)


def _grad(ctx, dq: Tensor, dk: Tensor, dv: Tensor):
    grads = (grad.contiguous() for grad in (dq, dk, dv))
    dqkv, dweight = _qkv_backward(*ctx.saved_tensors, ctx.eps, *grads)
    return dqkv, dweight, None, None


_qkv.register_autograd(_grad, setup_context=_setup)
