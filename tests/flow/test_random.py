"""Addressed randomness: distributions, independence, and values that never change."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from unite.flow.random import (
    BLOCK_WORDS,
    GOLDEN_GAMMA,
    STAFFORD_1,
    STAFFORD_2,
    Purpose,
    _mix,
    _signed,
    normal,
    stream_keys,
    uniform,
)

MASK = (1 << 64) - 1
BIG = 1 << 18
# Bound on |z| of one test statistic; with fixed seeds a pass stays a pass.
SIGMAS = 4.5

# Values of the address (0, 3, row, FLOW_NOISE); uniforms in units of 2^-24.
GOLDEN_KEYS = [688681632720732823, 2079156761338777083, -1591231445279058550]
GOLDEN_UNIFORM = [
    [8867542, 15428889, 1652676],
    [15512604, 5747659, 1389534],
    [5461779, 9136188, 8242059],
]
GOLDEN_NORMAL = [
    [0.98833013, -0.54630709, 0.32576945],
    [-0.21754016, 0.33077803, -0.24367625],
    [-1.43982899, -0.41398865, 1.06929386],
]


def mix_reference(word: int) -> int:
    """The finaliser on unsigned Python integers."""
    word = ((word ^ (word >> 30)) * STAFFORD_1) & MASK
    word = ((word ^ (word >> 27)) * STAFFORD_2) & MASK
    return word ^ (word >> 31)


def test_mix_is_stafford_13_on_ints_and_tensors():
    words = [0, 1, 2, MASK, 1 << 63, GOLDEN_GAMMA, 0x0123456789ABCDEF]
    expected = [_signed(mix_reference(word)) for word in words]
    assert [_mix(_signed(word)) for word in words] == expected
    assert _mix(torch.tensor([_signed(word) for word in words])).tolist() == expected


def test_mix_reproduces_the_published_splitmix64_sequence():
    # First outputs of splitmix64 seeded with 1234567, as in the reference implementation's tests.
    outputs = [mix_reference((1234567 + (i + 1) * GOLDEN_GAMMA) & MASK) for i in range(3)]
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_int_and_tensor_addresses_agree():
    rows = torch.tensor([0, 7, 1 << 40])
    keys = stream_keys(11, 3, rows, Purpose.FLIP)
    for row, key in zip(rows.tolist(), keys.tolist(), strict=True):
        assert stream_keys(11, 3, row, Purpose.FLIP).tolist() == [key]
        assert stream_keys(11, torch.tensor([3]), row, Purpose.FLIP).tolist() == [key]


def test_golden_values_are_frozen():
    keys = stream_keys(0, 3, torch.tensor([0, 1, (1 << 40) + 5]), Purpose.FLOW_NOISE)
    assert keys.tolist() == GOLDEN_KEYS
    np.testing.assert_array_equal(uniform(keys, (3,)).numpy() * 2**24, GOLDEN_UNIFORM)
    # log, root and cos may each be off by a unit or two of a radius of at most 6.8.
    np.testing.assert_allclose(normal(keys, (3,)).numpy(), GOLDEN_NORMAL, rtol=0, atol=2e-6)


def test_purposes_keep_their_numbers():
    assert [purpose.value for purpose in Purpose] == list(range(1, len(Purpose) + 1))
    assert (Purpose.TOKENIZE_NOISE, Purpose.FLIP, Purpose.SAMPLE) == (1, 9, 10)


@pytest.mark.parametrize("shape", [(BIG,), (BIG // 2, 2)], ids=["one key", "two per key"])
def test_uniform_is_uniform(shape):
    keys = stream_keys(1, torch.arange(shape[0])) if len(shape) == 2 else stream_keys(1)
    values = uniform(keys, (2,) if len(shape) == 2 else shape).flatten().double().numpy()
    assert values.min() >= 0.0 and values.max() < 1.0
    assert stats.kstest(values, "uniform").pvalue > 1e-4


@pytest.mark.parametrize("per_key", [1, 2, 3, 1000, BIG])
def test_normal_is_standard_normal(per_key):
    keys = stream_keys(2, torch.arange(BIG // per_key), Purpose.SAMPLE)
    values = normal(keys, (per_key,)).flatten().double().numpy()
    size = values.size
    assert np.isfinite(values).all() and np.abs(values).max() < 6.8
    assert abs(values.mean()) * size**0.5 < SIGMAS
    assert abs(values.var() - 1.0) * (size / 2) ** 0.5 < SIGMAS
    assert abs((values**3).mean()) * (size / 15) ** 0.5 < SIGMAS
    assert abs((values**4).mean() - 3.0) * (size / 96) ** 0.5 < SIGMAS
    assert stats.kstest(values, "norm").pvalue > 1e-4


def test_streams_of_neighbouring_addresses_are_uncorrelated():
    rows = torch.arange(64)
    blocks = [
        normal(stream_keys(seed, epoch, rows, purpose), (4096,))
        for seed, epoch, purpose in itertools.product((0, 1), (0, 1), (1, 2))
    ]
    values = torch.cat(blocks).double()
    correlation = (values @ values.T / values.shape[1]).fill_diagonal_(0.0)
    # 131k distinct pairs: the largest of that many normals stays below 5.5.
    assert correlation.abs().max() * values.shape[1] ** 0.5 < 5.5


def test_values_within_a_stream_are_uncorrelated():
    values = normal(stream_keys(4, torch.arange(32)), (8192,)).double()
    for lag in (1, 2, 3, 4095, 4096, 4097):
        product = values[:, lag:] * values[:, :-lag]
        assert abs(product.mean().item()) * product.numel() ** 0.5 < SIGMAS
    # The halves of a Box-Muller pair must be independent, not merely uncorrelated.
    first, second = values[:, :4096].square() - 1, values[:, 4096:].square() - 1
    assert abs((first * second).mean().item()) / 2 * first.numel() ** 0.5 < SIGMAS


def test_all_bits_of_keys_are_balanced():
    keys = stream_keys(0, torch.arange(1 << 16), Purpose.FLOW_T)
    bits = (keys[:, None] >> torch.arange(64)) & 1
    deviation = (bits.double().mean(0) - 0.5).abs() * 2 * keys.shape[0] ** 0.5
    assert deviation.max() < SIGMAS
    assert keys.unique().numel() == keys.numel()


def test_address_order_and_length_matter():
    addresses = [(0,), (0, 0), (0, 0, 0), (0, 1), (1, 0), (1,), (0, 1, 0), (-1,), (0, -1)]
    assert len({stream_keys(*address).item() for address in addresses}) == len(addresses)


@pytest.mark.parametrize("shape", [(), (1,), (3,), (4, 5), (2, 3, 7), (20_001,), (0,)])
@pytest.mark.parametrize("draw", [normal, uniform])
def test_a_row_does_not_depend_on_its_batch(draw, shape):
    rows = torch.tensor([5, 0, 1 << 40, 9, 123456789, 2, 77])
    keys = stream_keys(8, 2, rows, Purpose.TOKENIZE_NOISE)
    batch = draw(keys, shape)
    assert batch.shape == (7, *shape) and batch.dtype == torch.float32
    alone = torch.cat([draw(key[None], shape) for key in keys])
    assert torch.equal(batch, alone)
    assert torch.equal(draw(keys.flip(0)[:3], shape), batch.flip(0)[:3])


@given(st.integers(0, 40), st.integers(0, 40), st.integers(1, 5))
@pytest.mark.parametrize("draw", [normal, uniform])
def test_a_shorter_draw_is_the_beginning_of_a_longer_one(draw, fewer, more, channels):
    keys = stream_keys(8, 2, torch.arange(3), Purpose.FLOW_NOISE)
    longer = draw(keys, (fewer + more, channels))
    assert torch.equal(draw(keys, (fewer, channels)), longer[:, :fewer])


def test_a_draw_in_blocks_is_that_of_one_block(monkeypatch):
    keys = stream_keys(8, 2, torch.arange(9), Purpose.FLOW_NOISE)
    whole = normal(keys, (5, 7))
    for words in (1, 4, 20, 40):
        monkeypatch.setitem(BLOCK_WORDS, "cpu", words)
        assert torch.equal(normal(keys, (5, 7)), whole)


def test_extreme_words_give_finite_values(monkeypatch):
    extreme = torch.tensor([0, -1, LOWEST := -(1 << 63), (1 << 32) - 1, LOWEST + 1])
    monkeypatch.setattr("unite.flow.random._mix", lambda word: extreme[: word.shape[-1]])
    values = normal(torch.tensor([1, 2]), (10,))
    assert torch.isfinite(values).all() and values.abs().max() < 6.8
    values = uniform(torch.tensor([1, 2]), (10,))
    assert values.min() == 0.0 and values.max() == 1.0 - 2.0**-24


def test_wrong_types_are_refused():
    with pytest.raises(ValueError, match="int64 tensor of shape"):
        normal(torch.zeros(3), (2,))
    with pytest.raises(ValueError, match="int64 tensor of shape"):
        uniform(torch.zeros(3, 2, dtype=torch.int64))
    with pytest.raises(ValueError, match="address tensors must be int64"):
        stream_keys(0, torch.zeros(3, dtype=torch.int32))
