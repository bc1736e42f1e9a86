"""Addressed randomness: every draw is a pure function of where it is used.

A key is a 64-bit hash of an address, such as (seed, epoch, row, purpose) in training or the seed of
one sample in generation. Values are hashes of (key, position), so a draw depends neither on the
batch, worker or device that makes it, nor on what was drawn before. A draw of fewer values is the
beginning of one of more, so that noise does not depend on padding. Mixing is that of splitmix64
(Steele, Lea, Flood, OOPSLA 2014) with the finaliser of Stafford ("variant 13"), on int64 tensors:
multiplication wraps alike on every device, logical shifts are arithmetic ones with a mask. The
integers are bit-equal everywhere; normals on different devices differ by a rounding of log and cos.
On a GPU one kernel makes keys and one makes values (`models/kernels/noise.py`): the hundreds of
small operations below, which are its reference, would cost small models more than their layers.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar

import torch
from torch import Tensor

GOLDEN_GAMMA = 0x9E3779B97F4A7C15
STAFFORD_1 = 0xBF58476D1CE4E5B9
STAFFORD_2 = 0x94D049BB133111EB
LOW_32 = (1 << 32) - 1

# Words hashed at once. The temporaries of a block stay in a CPU's cache, and bounded on a GPU.
BLOCK_WORDS = {"cpu": 1 << 14}
DEFAULT_BLOCK_WORDS = 1 << 22


Word = TypeVar("Word", int, Tensor)


class Purpose(IntEnum):
    """Purpose of a draw: the last part of its address. Numbers are frozen; only append."""

    TOKENIZE_NOISE = 1
    TOKENIZE_T = 2
    DECODER_NOISE = 3
    DECODER_T = 4
    DECODER_GATE = 5
    FLOW_NOISE = 6
    FLOW_T = 7
    CLASS_DROP = 8
    FLIP = 9
    SAMPLE = 10
    SAMPLE_LABEL = 11
    AUGMENT = 12
    EVALUATION = 13
    SAMPLE_SIZE = 14


def stream_keys(seed: int, *address: int | Tensor) -> Tensor:
    """Hash an address into one key per row: int64 (B,).

    Parts are ints (any size, taken modulo 2^64) or int64 tensors of shape (B,). They are absorbed
    in order: (a, b) and (b, a) are different addresses. Without a tensor the result has shape (1,).
    """
    key: Any = _mix(_wrap(int(seed) + GOLDEN_GAMMA))
    for number, part in enumerate(address):
        if isinstance(part, Tensor) and (kernels := _kernels(part.device)):
            rest = tuple(map(_integer, address[number:]))
            if len(rest) <= kernels.MOST_PARTS and _alike(rest):
                return kernels.keys(int(key), rest, part)
        key = _mix(_wrap(key * _signed(STAFFORD_1)) ^ _mix(_wrap(_integer(part) + GOLDEN_GAMMA)))
    return key if isinstance(key, Tensor) else torch.tensor([key])


def uniform(keys_B: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Uniform values in [0, 1), multiples of 2^-24: float32 (B, *shape)."""

    def from_halves(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        return (high >> 8) * 2.0**-24, (low >> 8) * 2.0**-24

    if kernels := _kernels(keys_B.device):
        return kernels.values(_checked(keys_B), math.prod(shape), normal=False).view(-1, *shape)
    return _draw(keys_B, shape, from_halves)


def normal(keys_B: Tensor, shape: tuple[int, ...] = ()) -> Tensor:
    """Standard normal values by Box and Muller: float32 (B, *shape), at most 6.8 in size.

    The two halves of a word give a pair. The first is moved by half a unit, so its logarithm is
    finite.
    """

    def from_halves(high: Tensor, low: Tensor) -> tuple[Tensor, Tensor]:
        radius = high.float().add_(0.5).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
        angle = low.float().mul_(math.tau * 2.0**-32)
        return radius * angle.cos(), radius * angle.sin()

    if kernels := _kernels(keys_B.device):
        return kernels.values(_checked(keys_B), math.prod(shape), normal=True).view(-1, *shape)
    return _draw(keys_B, shape, from_halves)


def _draw(
    keys_B: Tensor,
    shape: tuple[int, ...],
    from_halves: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
) -> Tensor:
    """Hash (key, position) for every pair of neighbouring values, the two halves of a word."""
    _checked(keys_B)
    count = math.prod(shape)
    num_words = (count + 1) // 2
    out = torch.empty(keys_B.shape[0], num_words, 2, device=keys_B.device)
    increments_B = _mix(keys_B) | 1
    block = BLOCK_WORDS.get(keys_B.device.type, DEFAULT_BLOCK_WORDS)
    columns = max(1, min(num_words, block))
    rows = max(1, block // columns)
    for top in range(0, keys_B.shape[0], rows):
        band = slice(top, top + rows)
        for left in range(0, num_words, columns):
            right = min(left + columns, num_words)
            positions = torch.arange(left + 1, right + 1, device=out.device)
            words = _mix(keys_B[band, None] + increments_B[band, None] * positions)
            first, second = from_halves(_shift_right(words, 32), words & LOW_32)
            out[band, left:right, 0] = first
            out[band, left:right, 1] = second
    return out.flatten(1)[:, :count].reshape(keys_B.shape[0], *shape)


def _checked(keys_B: Tensor) -> Tensor:
    if keys_B.dtype != torch.int64 or keys_B.dim() != 1:
        raise ValueError(
            f"keys must be an int64 tensor of shape (B,), not {keys_B.dtype} of shape "
            f"{tuple(keys_B.shape)}; make them with stream_keys"
        )
    return keys_B


def _alike(parts: tuple[Any, ...]) -> bool:
    """True if all tensors have one shape."""
    return len({part.shape for part in parts if isinstance(part, Tensor)}) == 1


@functools.cache
def _kernels(device: torch.device) -> Any:
    """The kernels that draw in one pass on a GPU, once they have drawn what the reference draws;
    None elsewhere."""
    if device.type != "cuda":
        return None
    from unite.models.kernels.choose import noise_kernels

    return noise_kernels(device)


def _mix(word: Word) -> Word:
    """Stafford's 64-bit finaliser: a bijection in which each input bit flips half the outputs."""
    word = _wrap((word ^ _shift_right(word, 30)) * _signed(STAFFORD_1))
    word = _wrap((word ^ _shift_right(word, 27)) * _signed(STAFFORD_2))
    return word ^ _shift_right(word, 31)


def _shift_right(word: Word, bits: int) -> Word:
    """Logical shift of a signed 64-bit word: the mask clears the copies of the sign."""
    return (word >> bits) & ((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The int64 with the bits of `value` modulo 2^64."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)


def _wrap(word: Word) -> Word:
    """Reduce a Python int to int64; tensors wrap by themselves."""
    return _signed(word) if isinstance(word, int) else word


def _integer(part: int | Tensor) -> Any:
    if not isinstance(part, Tensor):
        return _signed(int(part))
    if part.dtype != torch.int64:
        raise ValueError(f"address tensors must be int64, not {part.dtype}")
    return part
