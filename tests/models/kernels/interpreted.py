"""Cases for `test_kernels.py`, run where Triton interprets: it reads TRITON_INTERPRET on import.

A tolerance is 64 roundings of the largest value: sums of up to 1,024 terms, mostly of both signs.
"""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from unite.flow import random
from unite.models.blocks import GenerativeBlock
from unite.models.kernels import choose, gate_norm, noise, norms, qk_norm_rope, swiglu
from unite.models.positions import rotary_table

EPS = 1e-6
PRECISIONS = pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
Function = Callable[..., Sequence[Tensor]]


def values(*shape: int, dtype: torch.dtype, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).to(dtype)


def numbers(function: Function, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Outputs of a function, then the gradients of its inputs."""
    leaves = [each.clone().requires_grad_() for each in inputs]
    outputs = function(*leaves)
    weights = [values(*out.shape, dtype=out.dtype, seed=90 + i) for i, out in enumerate(outputs)]
    torch.autograd.backward(list(outputs), weights)
    grads = [leaf.grad for leaf in leaves]
    assert all(grad is not None for grad in grads)
    return [*(out.detach() for out in outputs), *(grad for grad in grads if grad is not None)]


def compare(plain: Function, fused: Function, *inputs: Tensor) -> None:
    """Outputs and the gradients of all inputs agree to rounding."""
    for one, other in zip(numbers(plain, inputs), numbers(fused, inputs), strict=True):
        size = max(1.0, float(one.abs().max()))
        limit = 64 * torch.finfo(one.dtype).eps * size
        torch.testing.assert_close(other, one, rtol=0, atol=limit)


@PRECISIONS
@pytest.mark.parametrize(("batch", "length", "hidden"), [(1, 16, 64), (2, 33, 341), (3, 7, 5)])
def test_swiglu(batch: int, length: int, hidden: int, dtype: torch.dtype) -> None:
    x = values(batch, length, 2 * hidden, dtype=dtype, seed=1)
    compare(lambda x: [swiglu(x)], lambda x: [swiglu(x, fused=True)], x)


def test_swiglu_of_a_tensor_with_gaps() -> None:
    x = values(2, 6, 34, dtype=torch.float64, seed=1)
    compare(lambda x: [swiglu(x[:, ::2])], lambda x: [swiglu(x[:, ::2], fused=True)], x)


@PRECISIONS
@pytest.mark.parametrize(
    ("batch", "length", "heads", "width"), [(2, 16, 2, 32), (1, 33, 3, 72), (2, 5, 1, 128)]
)
def test_qk_norm_rope(batch: int, length: int, heads: int, width: int, dtype: torch.dtype) -> None:
    qkv = values(batch, length, 3, heads, width, dtype=dtype, seed=2)
    weight = 1 + 0.1 * values(2, width, dtype=dtype, seed=3)
    table = rotary_table(length, width, 2)[:, :length].to(dtype)  # a slice of it: strided
    compare(
        lambda q, w: qk_norm_rope(q, w, table, EPS),
        lambda q, w: qk_norm_rope(q, w, table, EPS, fused=True),
        qkv,
        weight,
    )


@PRECISIONS
@pytest.mark.parametrize(("batch", "length", "width"), [(2, 16, 64), (1, 33, 72), (3, 5, 7)])
def test_gate_norm(batch: int, length: int, width: int, dtype: torch.dtype) -> None:
    x, branch = (values(batch, length, width, dtype=dtype, seed=seed) for seed in (4, 5))
    gate, shift, scale = (values(batch, width, dtype=dtype, seed=seed) for seed in (6, 7, 8))
    weight = 1 + 0.1 * values(width, dtype=dtype, seed=9)

    def all_of(fused: bool) -> Function:
        return lambda x, g, b, w, s, c: gate_norm(x, (g, b), w, (s, c), EPS, fused=fused)

    def no_modulation(fused: bool) -> Function:
        return lambda x, g, b, w: gate_norm(x, (g, b), w, None, EPS, fused=fused)

    def result_alone(fused: bool) -> Function:
        return lambda x, g, b, w: gate_norm(x, (g, b), w, None, EPS, fused=fused)[1:]

    def no_branch(fused: bool) -> Function:
        return lambda x, w, s, c: gate_norm(x, None, w, (s, c), EPS, fused=fused)[1:]

    compare(all_of(False), all_of(True), x, gate, branch, weight, shift, scale)
    compare(no_modulation(False), no_modulation(True), x, gate, branch, weight)
    compare(result_alone(False), result_alone(True), x, gate, branch, weight)
    compare(no_branch(False), no_branch(True), x, weight, shift, scale)


def test_a_bfloat16_branch_keeps_a_float32_residual() -> None:
    x = values(2, 16, 64, dtype=torch.float32, seed=4)
    gate, branch = (values(2, *s, 64, dtype=torch.bfloat16, seed=5) for s in ((), (16,)))
    ones = torch.ones(64)
    residual, out = norms.gate_norm(x, (gate, branch), ones, None, EPS, torch.bfloat16)
    assert (residual.dtype, out.dtype) == (torch.float32, torch.bfloat16)
    exact = x.double() + gate.double()[:, None] * branch.double()
    torch.testing.assert_close(residual.double(), exact, rtol=0, atol=4 * 6e-8 * 10)


@PRECISIONS
@pytest.mark.parametrize("masked", [False, True])
def test_a_block_computes_the_same_either_way(dtype: torch.dtype, masked: bool) -> None:
    torch.manual_seed(0)
    block = GenerativeBlock(64, 2, 40, qk_norm=True).to(dtype)
    torch.nn.init.normal_(block.modulation.weight, std=0.1)
    table = rotary_table(11, 32).to(dtype)
    mask = torch.ones(2, 1, 1, 11, dtype=torch.bool)
    mask[:, ..., -3:] = not masked

    def forward(fused: bool) -> Function:
        def run(x: Tensor, c: Tensor) -> list[Tensor]:
            for part in block.modules():
                if hasattr(part, "fused"):
                    part.fused = fused
            return [block(x, c, table, mask)]

        return run

    x, condition = (values(2, *s, 64, dtype=dtype, seed=3) for s in ((11,), ()))
    compare(forward(False), forward(True), x, condition)


def test_a_probe_finds_a_kernel_that_computes_something_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    block = GenerativeBlock(64, 2, 40, qk_norm=True)
    assert choose.use_kernels(block, cpu, width=64, num_heads=2)
    assert block.fused and block.attention.fused and block.mlp.fused
    off = lambda *given, fused: swiglu(*given) * (1.001 if fused else 1)  # noqa: E731
    monkeypatch.setattr(choose, "swiglu", off)
    assert "differ from plain torch" in choose.probe(cpu, width=64, num_heads=2)
    assert not choose.use_kernels(block, cpu, width=64, num_heads=2)
    assert not block.fused and not block.mlp.fused


def test_a_probe_finds_a_gradient_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(gate_value: Tensor, *, fused: bool) -> Tensor:
        """The same values, whose gradient is 0.1% too large where it is fused."""
        extra = 0.001 * swiglu(gate_value) if fused else torch.zeros(())
        return swiglu(gate_value) + extra - extra.detach()

    monkeypatch.setattr(choose, "swiglu", off)
    reason = choose.probe(torch.device("cpu"), width=64, num_heads=2)
    assert "in torch.float32 they differ from plain torch" in reason


def test_a_probe_runs_below_bfloat16_autocast_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def only_float32(gate_value: Tensor, *, fused: bool) -> Tensor:
        if fused and gate_value.dtype == torch.bfloat16:
            raise TypeError("does not compile")
        return swiglu(gate_value)

    assert choose.probe(torch.device("cpu"), width=72, num_heads=1) == ""
    monkeypatch.setattr(choose, "swiglu", only_float32)
    reason = choose.probe(torch.device("cpu"), width=64, num_heads=2)
    assert reason == "TypeError: does not compile"


def test_a_kernel_that_does_not_compile_is_no_reason_to_stop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*given: object, fused: bool) -> Tensor:
        raise RuntimeError("no C++ compiler\nmore")

    monkeypatch.setattr(choose, "swiglu", broken)
    reason = choose.probe(torch.device("cpu"), width=64, num_heads=2)
    assert reason == "RuntimeError: no C++ compiler"


ADDRESSES = [
    (torch.tensor([0, 1, -5, 2**62]),),
    (3, torch.arange(4), 6),
    (-7, torch.arange(4), 2**63 + 11, torch.arange(4) - 2),
    (torch.arange(300), torch.arange(300) * 7919, 1, 2, torch.arange(300)),
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_keys_are_those_of_the_reference(address: tuple) -> None:
    expected = random.stream_keys(12345678901234567890, *address)
    first = random._mix(random._wrap(12345678901234567890 + random.GOLDEN_GAMMA))
    like = next(part for part in address if isinstance(part, Tensor))
    found = noise.keys(first, tuple(map(random._integer, address)), like)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("rows", "count"), [(1, 1), (3, 7), (2, 512), (2, 1031), (0, 4), (2, 0)])
def test_values_are_those_of_the_reference(rows: int, count: int) -> None:
    keys = random.stream_keys(5, torch.arange(rows))
    assert torch.equal(noise.values(keys, count, normal=False), random.uniform(keys, (count,)))
    found, expected = noise.values(keys, count, normal=True), random.normal(keys, (count,))
    torch.testing.assert_close(found, expected, rtol=0, atol=8 * 6e-8 * 7)


def test_noise_is_probed_by_frozen_values(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    assert choose.noise_kernels(cpu) is noise
    monkeypatch.setattr(choose, "NOISE_KEYS", [0, 1, 2])
    assert choose.noise_kernels(cpu) is None


def test_a_device_with_kernels_draws_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, rows = random.stream_keys(5, torch.arange(3)), torch.arange(3)
    plain = random.uniform(keys, (2, 5)), random.normal(keys, (5,)), random.stream_keys(1, 2, rows)
    drawn = []
    monkeypatch.setattr(random, "_kernels", lambda device: drawn.append(device) or noise)
    fused = random.uniform(keys, (2, 5)), random.normal(keys, (5,)), random.stream_keys(1, 2, rows)
    assert len(drawn) == 3 and torch.equal(plain[0], fused[0]) and torch.equal(plain[2], fused[2])
    torch.testing.assert_close(fused[1], plain[1], rtol=0, atol=8 * 6e-8 * 7)
    with pytest.raises(ValueError, match="keys must be an int64 tensor"):
        random.normal(keys.float())
