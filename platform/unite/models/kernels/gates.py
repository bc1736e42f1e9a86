"""SwiGLU's gate: silu(gate) * value, forward and backward in one pass each.

Shapes: (..., 2 F) holds gate, then value; the result is (..., F).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 1024
"""Values that one program computes."""


def swiglu(gate_value: Tensor) -> Tensor:
    """(..., 2 F) -> (..., F) in the precision of the input."""
    return _swiglu(gate_value.contiguous())


@triton.jit
def _forward(gate_value, out, count, width, ACC: tl.constexpr, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = index // width * (2 * width) + index % width
    gate = tl.load(gate_value + place, mask=inside, other=0.0).to(ACC)
    value = tl.load(gate_value + place + width, mask=inside, other=0.0).to(ACC)
    result = gate / (1.0 + tl.exp(-gate)) * value
    tl.store(out + index, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def _backward(gate_value, grad, out, count, width, ACC: tl.constexpr, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < count
    place = index // width * (2 * width) + index % width
    gate = tl.load(gate_value + place, mask=inside, other=0.0).to(ACC)
    value = tl.load(gate_value + place + width, mask=inside, other=0.0).to(ACC)
    flow = tl.load(grad + index, mask=inside, other=0.0).to(ACC)
    share = 1.0 / (1.0 + tl.exp(-gate))
    to_gate = flow * value * share * (1.0 + gate * (1.0 - share))
    tl.store(out + place, to_gate.to(out.dtype.element_ty), mask=inside)
    to_value = flow * gate * share
    tl.store(out + place + width, to_value.to(out.dtype.element_ty), mask=inside)


@torch.library.custom_op("unite::swiglu", mutates_args=())
def _swiglu(gate_value: Tensor) -> Tensor:
    out = gate_value.new_empty(*gate_value.shape[:-1], gate_value.shape[-1] // 2)
    _launch(_forward, gate_value, (gate_value, out), out.numel())
    return out


@_swiglu.register_fake
def _(gate_value: Tensor) -> Tensor:
    return gate_value.new_empty(*gate_value.shape[:-1], gate_value.shape[-1] // 2)


@torch.library.custom_op("unite::swiglu_backward", mutates_args=())
def _swiglu_backward(gate_value: Tensor, grad: Tensor) -> Tensor:
    out = torch.empty_like(gate_value)
    _launch(_backward, gate_value, (gate_value, grad, out), grad.numel())
    return out


@_swiglu_backward.register_fake
def _(gate_value: Tensor, grad: Tensor) -> Tensor:
    return torch.empty_like(gate_value)


def _launch(kernel, gate_value: Tensor, tensors: tuple[Tensor, ...], count: int) -> None:
    acc = tl.float64 if gate_value.dtype == torch.float64 else tl.float32
    width = gate_value.shape[-1] // 2
    grid = (triton.cdiv(count, BLOCK),)
    with torch.cuda.device_of(gate_value):  # Triton starts on the current device
        kernel[grid](*tensors, count, width, ACC=acc, BLOCK=BLOCK)


def _setup(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs)


def _grad(ctx, grad: Tensor) -> Tensor:
    return _swiglu_backward(*ctx.saved_tensors, grad.contiguous())


_swiglu.register_autograd(_grad, setup_context=_setup)
