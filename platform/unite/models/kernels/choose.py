"""The choice of kernels or plain torch on a device, after a probe at the widths of the model."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from unite.models.kernels import gate_norm, qk_norm_rope, swiglu

BF16_CAPABILITY = (8, 0)
"""Oldest CUDA architecture that has bfloat16 matrix products."""
PROBE_TOKENS = 19
ROUNDINGS = {torch.float32: 256, torch.bfloat16: 8}
"""Precisions of the probe, and by how many roundings of the largest value results may differ."""
SWITCH = "fused"
"""Attribute of the layers that can take a kernel."""
log = logging.getLogger(__name__)

NOISE_FIRST = -2152535657050944081
"""Key of the seed 0."""
NOISE_ROWS = [0, 1, (1 << 40) + 5]
NOISE_KEYS = [688681632720732823, 2079156761338777083, -1591231445279058550]
NOISE_VALUES = [8867542.0, 15428889.0, 1652676.0]
NOISE_NORMALS = [0.98833013, -0.54630709, 0.32576945]
"""Keys of the address (0, 3, row, FLOW_NOISE), and values of its first row: uniform ones in units
of 2^-24, and normal ones. They are frozen in tests/flow/test_random.py, too."""


def use_kernels(module: nn.Module, device: torch.device, *, width: int, num_heads: int) -> bool:
    """Let the blocks of `module` take the kernels where the device passes the probe.

    Returns whether they do; a GPU that cannot take them is told with the reason, once.
    """
    reason = unusable(device) or probe(device, width=width, num_heads=num_heads)
    if reason and device.type == "cuda":
        log.warning("The fused kernels are not used: %s. Plain torch computes the same.", reason)
    for part in module.modules():
        if hasattr(part, SWITCH):
            setattr(part, SWITCH, not reason)
    return not reason


def noise_kernels(device: torch.device) -> Any:
    """The module `noise` where a device draws with it what these fixed values say, else None."""
    reason = unusable(device)
    if not reason:
        try:
            from unite.models.kernels import noise

            reason = _other_noise(noise, device)
        except Exception as error:  # as in `probe`
            reason = f"{type(error).__name__}: {error}"
        else:
            if not reason:
                return noise
    log.warning("Noise is not drawn by a kernel: %s. Plain torch draws the same.", reason)
    return None


def _other_noise(noise: Any, device: torch.device) -> str:
    """Reason why the kernels' values are not those of the address (0, 3, row, FLOW_NOISE)."""
    rows = torch.tensor(NOISE_ROWS, device=device)
    keys = noise.keys(NOISE_FIRST, (3, rows, 6), rows)
    values = noise.values(keys, len(NOISE_VALUES), normal=False)[0] * 2**24
    normals = noise.values(keys, len(NOISE_NORMALS), normal=True)[0].cpu()
    if keys.tolist() != NOISE_KEYS or values.tolist() != NOISE_VALUES:
        return "it makes other integers"
    if not torch.allclose(normals, torch.tensor(NOISE_NORMALS), rtol=0, atol=1e-5):
        return "it makes other normal values"
    return ""


def unusable(device: torch.device) -> str:
    """Reason why a kind of device takes no kernels; empty when it may."""
    if find_spec("triton") is None:
        return "the package triton is not installed"
    if device.type == "cpu" and os.environ.get("TRITON_INTERPRET") == "1":
        return ""
    if device.type != "cuda" or torch.version.hip is not None:
        return f"they are written for CUDA, and this device is {device.type}"
    capability = torch.cuda.get_device_capability(device)
    if capability < BF16_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        return f"{name} has compute capability {capability[0]}.{capability[1]}, they need 8.0"
    return ""


def probe(device: torch.device, *, width: int, num_heads: int) -> str:
    """Reason why the kernels fail on a device at these widths; empty when they agree with torch.

    Values and gradients of one small batch are compared with those of the plain forms, in float32
    and below bfloat16 autocast, for which other code is compiled.
    """
    for dtype in ROUNDINGS:
        sizes = device, width, width // num_heads, dtype
        try:
            plain, fused = (_numbers(*sizes, use) for use in (False, True))
        except Exception as error:  # a compiler's, driver's or launcher's: any of them means no
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        for one, other in zip(plain, fused, strict=True):
            limit = ROUNDINGS[dtype] * torch.finfo(dtype).eps * float(one.abs().max())
            difference = float((one - other).abs().max())
            if not difference <= limit:
                return (
                    f"in {dtype} they differ from plain torch by {difference:.2g}, rounding "
                    f"allows {limit:.2g}"
                )
    return ""


def _numbers(
    device: torch.device, width: int, head_width: int, dtype: torch.dtype, fused: bool
) -> list[Tensor]:
    """Outputs of all kernels and the gradients of their inputs, as a block has them in a precision:
    what a product gives is of that, the residual and the norms' weights are float32."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=generator).to(device, dtype).requires_grad_()

    x, weight, norms = draw(2, PROBE_TOKENS, width), draw(width), draw(2, head_width)
    branch, pair = (draw(2, PROBE_TOKENS, n * width, dtype=dtype) for n in (1, 2))
    gate, shift, scale = (draw(2, width, dtype=dtype) for _ in range(3))
    qkv = draw(2, PROBE_TOKENS, 3, 2, head_width, dtype=dtype)
    rotary = draw(2, PROBE_TOKENS, head_width // 2).detach()
    with torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32):
        outputs = [
            *gate_norm(x, (gate, branch), weight, (shift, scale), 1e-6, fused=fused),
            swiglu(pair, fused=fused),
            *qk_norm_rope(qkv, norms, rotary, 1e-6, fused=fused),
        ]
    # Gradients as large as the outputs, so that their errors are seen beside rounding.
    torch.autograd.backward(outputs, [output.detach() for output in outputs])
    leaves = (x, branch, gate, shift, scale, weight, pair, qkv, norms)
    found = [*(output.detach() for output in outputs), *(leaf.grad for leaf in leaves)]
    return [each.float() for each in found if each is not None]
