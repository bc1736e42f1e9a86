"""Addressed randomness in one pass: the keys of rows from their addresses, and values from keys.

The same hashes as `flow/random.py`, which is the reference: keys and uniform values are equal to
the bit, normals up to a rounding of log, cos and sin. Shapes: B rows.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

WORDS = 256
"""Words of a row that one program hashes; each gives two values."""
ROWS = 256
"""Keys that one program makes."""
MOST_PARTS = 5
"""Largest number of parts of an address that one launch absorbs."""
TWO_PI = tl.constexpr(math.tau * 2.0**-32)


@triton.jit
def _mix(word):
    """Stafford's 64-bit finaliser, on unsigned words."""
    word = (word ^ (word >> 30)) * 0xBF58476D1CE4E5B9
    word = (word ^ (word >> 27)) * 0x94D049BB133111EB
    return word ^ (word >> 31)


@triton.jit
def _absorb(key, part):
    mixed = _mix(part.to(tl.uint64, bitcast=True) + 0x9E3779B97F4A7C15)
    return _mix((key * 0xBF58476D1CE4E5B9) ^ mixed)


@triton.jit
def _absorb_part(key, part, row, inside, TENSOR: tl.constexpr, R: tl.constexpr):
    """Absorb the word of each of R rows where the part is a tensor, else the one number."""
    word = tl.load(part + row, mask=inside, other=0) if TENSOR else part
    return _absorb(key, tl.full((R,), 0, tl.int64) + word)


@triton.jit
def _keys(
    out, first, count, a, b, c, d, e,
    N: tl.constexpr, TENSORS: tl.constexpr, R: tl.constexpr,
):  # fmt: skip
    """Absorb N parts; bit i of TENSORS says that part i is a tensor, else it is one number."""
    row = tl.program_id(0) * R + tl.arange(0, R)
    inside = row < count
    key = tl.full((R,), 0, tl.int64) + first
    key = key.to(tl.uint64, bitcast=True)
    if N > 0:
        key = _absorb_part(key, a, row, inside, TENSORS & 1, R)
    if N > 1:
        key = _absorb_part(key, b, row, inside, TENSORS & 2, R)
    if N > 2:
        key = _absorb_part(key, c, row, inside, TENSORS & 4, R)
    if N > 3:
        key = _absorb_part(key, d, row, inside, TENSORS & 8, R)
    if N > 4:
        key = _absorb_part(key, e, row, inside, TENSORS & 16, R)
    tl.store(out + row, key.to(tl.int64, bitcast=True), mask=inside)


@triton.jit
def _values(keys, out, count, NORMAL: tl.constexpr, W: tl.constexpr):
    """Values 2 w and 2 w + 1 of a row are the halves of its word w."""
    row = tl.program_id(0).to(tl.int64)
    place = tl.program_id(1).to(tl.int64) * W + tl.arange(0, W)
    key = (tl.zeros((W,), tl.int64) + tl.load(keys + row)).to(tl.uint64, bitcast=True)
    step = _mix(key) | 1
    word = _mix(key + step * (place + 1).to(tl.uint64, bitcast=True))
    high, low = word >> 32, word & 0xFFFFFFFF
    if NORMAL:
        radius = tl.sqrt(-2.0 * tl.log((high.to(tl.float32) + 0.5) * 2.3283064365386963e-10))
        angle = low.to(tl.float32) * TWO_PI
        first, second = radius * tl.cos(angle), radius * tl.sin(angle)
    else:
        first = (high >> 8).to(tl.float32) * 5.9604644775390625e-08
        second = (low >> 8).to(tl.float32) * 5.9604644775390625e-08
    start = row * count + 2 * place
    tl.store(out + start, first, mask=2 * place < count)
    tl.store(out + start + 1, second, mask=2 * place + 1 < count)


def keys(first: int, parts: tuple[int | Tensor, ...], like: Tensor) -> Tensor:
    """The key `first`, a signed word, with up to MOST_PARTS parts absorbed: int64 (B,).

    Parts are signed words, or int64 tensors (B,) of the device of `like`.
    """
    out = torch.empty_like(like, memory_format=torch.contiguous_format)
    given = [p.contiguous() if isinstance(p, Tensor) else p for p in parts]
    tensors = sum(1 << i for i, part in enumerate(given) if isinstance(part, Tensor))
    padded = [*given, *[0] * (MOST_PARTS - len(given))]
    grid = (triton.cdiv(out.numel(), ROWS),)
    kernel: Any = _keys[grid]
    with torch.cuda.device_of(out):  # Triton starts on the current device
        kernel(out, first, out.numel(), *padded, N=len(given), TENSORS=tensors, R=ROWS)
    return out


def values(keys_B: Tensor, count: int, *, normal: bool) -> Tensor:
    """`count` values of each key, float32 (B, count): standard normal, or uniform in [0, 1)."""
    out = torch.empty(len(keys_B), count, device=keys_B.device)
    if out.numel():
        # Rows first: CUDA takes no more than 65,535 programs along any other axis.
        grid = (len(keys_B), triton.cdiv((count + 1) // 2, WORDS))
        kernel: Any = _values[grid]
        with torch.cuda.device_of(out):
            kernel(keys_B.contiguous(), out, count, NORMAL=normal, W=WORDS)
    return out
