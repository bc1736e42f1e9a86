"""Residual, RMSNorm and modulation in one pass: what stands between two products of a block.

    residual = x + gate * branch
    result   = rms_norm(residual) * weight * (1 + scale) + shift

Shapes: B batch, S sequence, H width. x and branch are (B, S, H), weight (H,); gate, shift and scale
are (B, H), one row for all tokens of a sample.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

ROWS = 16
"""Tokens of a sample that one program of the backward walks through, to sum their gradients."""


def gate_norm(
    x_BSH: Tensor,
    branch: tuple[Tensor, Tensor] | None,
    weight: Tensor,
    modulation: tuple[Tensor, Tensor] | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Residual (x itself without a branch) and result in `dtype`.

    `branch` is (gate, branch), `modulation` (shift, scale).
    """
    gate, added = branch or (None, None)
    shift, scale = modulation or (None, None)
    added = None if added is None else added.contiguous()
    residual, out = _gate_norm(x_BSH.contiguous(), gate, added, weight, shift, scale, eps, dtype)
    return x_BSH if branch is None else residual, out


@triton.jit
def _residual(
    x, gate, branch, row, sample, column, inside, H, HAS_BRANCH: tl.constexpr, ACC: tl.constexpr
):  # fmt: skip
    """x + gate * branch of one token, and x alone without a branch."""
    value = tl.load(x + row * H + column, mask=inside, other=0.0).to(ACC)
    if HAS_BRANCH:
        factor = tl.load(gate + sample * H + column, mask=inside, other=0.0).to(ACC)
        value += factor * tl.load(branch + row * H + column, mask=inside, other=0.0).to(ACC)
    return value


@triton.jit
def _forward(
    x, gate, branch, weight, shift, scale, residual, out, S, H, eps,
    HAS_BRANCH: tl.constexpr, MODULATED: tl.constexpr, WIDTH: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    sample = row // S
    column = tl.arange(0, WIDTH)
    inside = column < H
    value = _residual(x, gate, branch, row, sample, column, inside, H, HAS_BRANCH, ACC)
    if HAS_BRANCH:
        tl.store(residual + row * H + column, value.to(residual.dtype.element_ty), mask=inside)
    value *= 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / H + eps)
    value *= tl.load(weight + column, mask=inside, other=0.0).to(ACC)
    if MODULATED:
        factor = tl.load(scale + sample * H + column, mask=inside, other=0.0).to(ACC)
        value = value * (1.0 + factor)
        value += tl.load(shift + sample * H + column, mask=inside, other=0.0).to(ACC)
    tl.store(out + row * H + column, value.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(
    x, gate, branch, weight, scale, grad_residual, grad_out, dx, dbranch, sums, S, H, eps,
    HAS_BRANCH: tl.constexpr, MODULATED: tl.constexpr, HAS_GRAD: tl.constexpr,
    WIDTH: tl.constexpr, R: tl.constexpr, ACC: tl.constexpr,
):  # fmt: skip
    sample, block = tl.program_id(0).to(tl.int64), tl.program_id(1)
    column = tl.arange(0, WIDTH)
    inside = column < H
    w = tl.load(weight + column, mask=inside, other=0.0).to(ACC)
    factor = tl.zeros((WIDTH,), dtype=ACC)
    if MODULATED:
        factor = tl.load(scale + sample * H + column, mask=inside, other=0.0).to(ACC)
    to_weight = tl.zeros((WIDTH,), dtype=ACC)
    to_shift = tl.zeros((WIDTH,), dtype=ACC)
    to_scale = tl.zeros((WIDTH,), dtype=ACC)
    to_gate = tl.zeros((WIDTH,), dtype=ACC)
    for step in range(R):
        token = block * R + step
        exists = column < tl.where(token < S, H, 0)
        row = sample * S + token
        value = _residual(x, gate, branch, row, sample, column, exists, H, HAS_BRANCH, ACC)
        inverse = 1.0 / tl.sqrt(tl.sum(value * value, axis=0) / H + eps)
        value *= inverse
        grad = tl.load(grad_out + row * H + column, mask=exists, other=0.0).to(ACC)
        if MODULATED:
            to_shift += grad
            to_scale += grad * value * w
            grad *= 1.0 + factor
        to_weight += grad * value
        grad *= w
        grad = inverse * (grad - value * (tl.sum(grad * value, axis=0) / H))
        if HAS_GRAD:
            grad += tl.load(grad_residual + row * H + column, mask=exists, other=0.0).to(ACC)
        tl.store(dx + row * H + column, grad.to(dx.dtype.element_ty), mask=exists)
        if HAS_BRANCH:
            gated = tl.load(gate + sample * H + column, mask=inside, other=0.0).to(ACC) * grad
            tl.store(dbranch + row * H + column, gated.to(dbranch.dtype.element_ty), mask=exists)
            added = tl.load(branch + row * H + column, mask=exists, other=0.0).to(ACC)
            to_gate += grad * added
    part = (sample * tl.num_programs(1) + block) * H + column
    size = tl.num_programs(0) * tl.num_programs(1) * H
    tl.store(sums + part, to_weight, mask=inside)
    if MODULATED:
        tl.store(sums + size + part, to_shift, mask=inside)
        tl.store(sums + 2 * size + part, to_scale, mask=inside)
    if HAS_BRANCH:
        tl.store(sums + 3 * size + part, to_gate, mask=inside)


@torch.library.custom_op("unite::gate_norm", mutates_args=())
def _gate_norm(
    x: Tensor,
    gate: Tensor | None,
    branch: Tensor | None,
    weight: Tensor,
    shift: Tensor | None,
    scale: Tensor | None,
    eps: float,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor]:
    """Residual (empty without a branch) and result."""
    residual, out = _shapes(x, gate, branch, weight, shift, scale, eps, dtype)
    has_branch, modulated = branch is not None, scale is not None
    given = _given(x, gate, branch, weight, shift, scale)
    _, length, width = x.shape
    kernel: Any = _forward[(x.shape[0] * length,)]
    with torch.cuda.device_of(x):  # Triton starts on the current device
        kernel(
            *given,
            residual,
            out,
            length,
            width,
            eps,
            HAS_BRANCH=has_branch,
            MODULATED=modulated,
            **_sizes(x),
        )
    return residual, out


@_gate_norm.register_fake
def _shapes(x, gate, branch, weight, shift, scale, eps, dtype):
    precision = torch.promote_types(x.dtype, torch.float32)
    residual = x.new_empty(x.shape if branch is not None else (0,), dtype=precision)
    return residual, x.new_empty(x.shape, dtype=dtype)


@torch.library.custom_op("unite::gate_norm_backward", mutates_args=())
def _gate_norm_backward(
    x: Tensor,
    gate: Tensor | None,
    branch: Tensor | None,
    weight: Tensor,
    scale: Tensor | None,
    grad_residual: Tensor | None,
    grad_out: Tensor,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x and branch (B, S, H), and (4, B, H): of weight, shift, scale, gate."""
    batch, length, width = x.shape
    dx, dbranch, sums = _backward_shapes(x, gate, branch, weight, scale, None, grad_out, eps)
    blocks = triton.cdiv(length, ROWS)
    parts = sums.new_zeros(4, batch, blocks, width)
    given = _given(x, gate, branch, weight, None, scale)
    kernel: Any = _backward[(batch, blocks)]
    with torch.cuda.device_of(x):  # Triton starts on the current device
        kernel(
            *given[:4],
            given[5],
            x if grad_residual is None else grad_residual,
            grad_out,
            dx,
            dbranch,
            parts,
            length,
            width,
            eps,
            HAS_BRANCH=branch is not None,
            MODULATED=scale is not None,
            HAS_GRAD=grad_residual is not None,
            R=ROWS,
            **_sizes(x),
        )
    return dx, dbranch, parts.sum(2)


@_gate_norm_backward.register_fake
def _backward_shapes(x, gate, branch, weight, scale, grad_residual, grad_out, eps):
    batch, _, width = x.shape
    precision = torch.promote_types(x.dtype, torch.float32)
    dbranch = x.new_empty(0) if branch is None else torch.empty_like(branch)
    return torch.empty_like(x), dbranch, x.new_empty(4, batch, width, dtype=precision)


def _given(x: Tensor, *others: Tensor | None) -> list[Tensor]:
    """Pointers for the kernel; what it does not read is given as x."""
    return [x, *(x if other is None else other.contiguous() for other in others)]


def _sizes(x: Tensor) -> dict:
    acc = tl.float64 if x.dtype == torch.float64 else tl.float32
    return {"WIDTH": triton.next_power_of_2(x.shape[-1]), "ACC": acc}


def _setup(ctx, inputs, output) -> None:
    ctx.set_materialize_grads(False)  # of an output that nobody read
    x, gate, branch, weight, shift, scale, ctx.eps, _ = inputs
    ctx.shift_dtype = None if shift is None else shift.dtype
    ctx.save_for_backward(x, gate, branch, weight, scale)


def _grad(ctx, grad_residual: Tensor | None, grad_out: Tensor | None):
    x, gate, branch, weight, scale = ctx.saved_tensors
    if grad_out is None:
        grad_out = torch.zeros_like(x)
    if branch is None:
        grad_residual = None  # its residual is an empty tensor
    if grad_residual is not None:
        grad_residual = grad_residual.contiguous()
    dx, dbranch, sums = _gate_norm_backward(
        x, gate, branch, weight, scale, grad_residual, grad_out.contiguous(), ctx.eps
    )
    dweight = sums[0].sum(0).to(weight.dtype)
    dshift = None if ctx.shift_dtype is None else sums[1].to(ctx.shift_dtype)
    dscale = None if scale is None else sums[2].to(scale.dtype)
    dgate = None if gate is None else sums[3].to(gate.dtype)
    return dx, dgate, None if branch is None else dbranch, dweight, dshift, dscale, None, None


_gate_norm.register_autograd(_grad, setup_context=_setup)
