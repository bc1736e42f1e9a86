"""Fused kernels against their plain forms: values and every gradient, in float64, at odd sizes.

The interpreter does not know Triton's types: that its compiler takes the kernels is tested apart.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from unite.models.blocks import GenerativeBlock
from unite.models.kernels.choose import SWITCH, unusable, use_kernels
from unite.models.positions import rotary_table

HERE = Path(__file__).parent


def test_kernels_in_the_interpreter_of_triton() -> None:
    pytest.importorskip("triton")
    words = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*words, HERE / "interpreted.py"],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


TYPES = {"bfloat16": "*bf16", "float32": "*fp32", "float64": "*fp64", "int64": "*i64"}


def type_of(value: object) -> str:
    """Triton's name for the type of an argument."""
    if isinstance(value, torch.Tensor):
        return TYPES[str(value.dtype).removeprefix("torch.")]
    if isinstance(value, float):
        return "fp32"
    return "i32" if -(2**31) <= int(str(value)) < 2**31 else "i64"


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="nothing is compiled")
@pytest.mark.parametrize(
    ("capability", "dtypes"),
    [
        (90, [torch.bfloat16]),
        pytest.param(90, [torch.float32], marks=pytest.mark.long),
        pytest.param(80, [torch.float32, torch.bfloat16], marks=pytest.mark.long),
    ],
)
def test_every_kernel_compiles_for_a_card(capability, dtypes, tmp_path, monkeypatch) -> None:
    """Without one: what a block and its backward pass launch goes through Triton's compiler."""
    triton = pytest.importorskip("triton")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    from triton.runtime.jit import JITFunction

    from unite.models.kernels import noise

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    made: dict[str, set[tuple[str, ...]]] = {}
    on: list[torch.Tensor] = []

    @contextmanager
    def device_of(tensor: torch.Tensor) -> Iterator[None]:
        on.append(tensor)
        yield
        on.pop()

    monkeypatch.setattr(torch.cuda, "device_of", device_of)

    def compile_alone(self, *given, grid, warmup, **constants) -> None:
        assert on, "a launch on the current device, which may not be the tensors'"
        values = {**dict(zip(self.arg_names, given, strict=False)), **constants}
        fixed = {p.name: values[p.name] for p in self.params if p.is_constexpr}
        types = {
            p.name: "constexpr" if p.name in fixed else type_of(values[p.name]) for p in self.params
        }
        source = ASTSource(fn=self, signature=types, constexprs=fixed)
        assert triton.compile(source, target=GPUTarget("cuda", capability, 32)).asm["ptx"]
        made.setdefault(f"{self.__module__.split('.')[-1]}{self.__name__}", set()).add(
            tuple(types.values())
        )

    monkeypatch.setattr(JITFunction, "run", compile_alone)
    for dtype in dtypes:
        block = GenerativeBlock(144, 2, 40, qk_norm=True)
        for part in block.modules():
            if hasattr(part, SWITCH):
                setattr(part, SWITCH, True)
        x = torch.zeros(2, 5, 144, requires_grad=True)
        with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
            out = block(x, torch.zeros(2, 144), rotary_table(5, 72), None)
        out.sum().backward()
    rows = torch.arange(3)
    keys = noise.keys(-1, (3, rows, 2**40, rows), rows)
    for normal in (False, True):
        noise.values(keys, 5, normal=normal)
    both = {"norms", "rotary", "gates"}
    names = {f"{name}_{way}" for name in both for way in ("forward", "backward")}
    assert made.keys() == names | {"noise_keys", "noise_values"}
    if len(dtypes) > 1:
        assert all(len(made[name]) > 1 for name in names), "other code for each precision"


def test_a_cpu_computes_in_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    block = torch.nn.Sequential()
    assert not use_kernels(block, torch.device("cpu"), width=64, num_heads=2)


def test_an_old_card_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    monkeypatch.setattr("unite.models.kernels.choose.find_spec", lambda name: object())
    assert unusable(torch.device("cuda")) == "Tesla T4 has compute capability 7.5, they need 8.0"
