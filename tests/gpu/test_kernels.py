"""The fused kernels on a card: they pass the probe, and agree with plain torch, compiled or not."""

import pytest
import torch

from unite.models.blocks import GenerativeBlock
from unite.models.kernels.choose import probe, use_kernels
from unite.models.positions import rotary_table

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
CUDA = torch.device("cuda")


@pytest.mark.parametrize(("width", "num_heads"), [(384, 6), (768, 12), (1024, 16), (1152, 16)])
def test_the_card_passes_the_probe_at_every_size_of_the_paper(width: int, num_heads: int) -> None:
    assert probe(CUDA, width=width, num_heads=num_heads) == ""


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_a_block_computes_the_same_either_way(compiled: bool, precision: torch.dtype) -> None:
    """Errors against float64 are no larger with the kernels than without, within a factor 1.5."""
    errors = {fused: _error(fused, compiled, precision) for fused in (False, True)}
    unit = torch.finfo(precision).eps
    assert all(
        new <= 1.5 * old + unit for new, old in zip(errors[True], errors[False], strict=True)
    )


def _error(fused: bool, compiled: bool, precision: torch.dtype) -> list[float]:
    """Relative errors of a block's output and input gradient against the block in float64."""
    torch.manual_seed(0)
    block = GenerativeBlock(768, 12, 2048, qk_norm=True)
    torch.nn.init.normal_(block.modulation.weight, std=0.02)
    x, condition, table = torch.randn(4, 40, 768), torch.randn(4, 768), rotary_table(40, 64)
    exact = _numbers(block.double(), x.double(), condition.double(), table.double())
    block = block.float().to(CUDA)
    if fused:
        assert use_kernels(block, CUDA, width=768, num_heads=12)
    if compiled:
        block.compile(fullgraph=True)
    with torch.autocast("cuda", dtype=precision, enabled=precision == torch.bfloat16):
        found = _numbers(block, x.to(CUDA), condition.to(CUDA), table.to(CUDA))
    return [
        float((one.double().cpu() - other).norm() / other.norm())
        for one, other in zip(found, exact, strict=True)
    ]


def _numbers(block: torch.nn.Module, x, condition, table) -> list[torch.Tensor]:
    x = x.clone().requires_grad_()
    block.zero_grad()
    out = block(x, condition, table, None)
    # No norm of the output: the block's last one makes that a constant, whose gradient is rounding.
    weights = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
    out.backward(weights.to(out))
    assert x.grad is not None
    return [out.detach(), x.grad]
