"""The bytes of a safetensors file, piece by piece, straight from the tensors' memory.

`safetensors.torch.save` builds the whole file twice in memory while it holds the interpreter lock,
which stalls the training thread beside a background save. The format itself is small: the length of
a JSON header (8 bytes, little endian), the header (name -> dtype, shape, byte range), the data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
CHUNK_BYTES = 8 * 2**20
ALIGNMENT = 8


def safetensors_chunks(
    tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> Iterator[bytes | memoryview]:
    """Pieces of a safetensors file of CPU tensors with text `metadata`; the data is not copied.

    ValueError names a tensor that the format, or this writer, does not hold.
    """
    # The widest types first keep every tensor aligned to its own size.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    yield _header({name: tensors[name] for name in order}, metadata)
    for name in order:
        flat = tensors[name].detach().contiguous().reshape(-1)
        data = flat.view(torch.uint8).numpy().data
        for start in range(0, len(data), CHUNK_BYTES):
            yield data[start : start + CHUNK_BYTES]


def _header(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPES or tensor.device.type != "cpu":
            raise ValueError(f"cannot save {name}: {tensor.dtype} on {tensor.device}")
        start, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
