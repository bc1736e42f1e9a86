"""The piecewise safetensors writer against the safetensors library as the reader."""

import pytest
import torch
from safetensors.torch import load

from unite.checkpoints import tensors as module
from unite.checkpoints.tensors import safetensors_chunks


def test_the_library_reads_every_dtype_and_shape(monkeypatch):
    monkeypatch.setattr(module, "CHUNK_BYTES", 16)
    written = {
        "scalar": torch.tensor(3.5),
        "flag": torch.tensor([True, False, True]),
        "empty": torch.zeros(0, 4),
        "transposed": torch.arange(12.0).reshape(3, 4).T,
        "half": torch.randn(5).bfloat16(),
        "steps": torch.tensor([1, -2, 2**60]),
        "wide": torch.randn(3, 2, dtype=torch.float64),
    }
    read = load(b"".join(safetensors_chunks(written, {})))
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor), name


def test_data_is_not_copied():
    tensor = torch.zeros(1000)
    _, data = safetensors_chunks({"a": tensor}, {})
    tensor.fill_(1.0)
    assert bytes(data) == tensor.numpy().tobytes()


def test_a_dtype_outside_the_format_is_named():
    with pytest.raises(ValueError, match="cannot save wave: torch.complex64"):
        list(safetensors_chunks({"wave": torch.zeros(2, dtype=torch.complex64)}, {}))
