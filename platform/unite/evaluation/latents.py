"""Latents of samples, kept for models that differ in their decoder alone.

Fine-tuning a decoder leaves the flow as it is, so a parent and all that was made of it draw the
same latents to the bit: they are drawn once, by whoever comes first, and decoded by each.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from unite.models.unite import UNITE
from unite.sampling.generator import Samples
from unite.storage import Store


def flow_digest(model: UNITE) -> str:
    """Digest of all that latents depend on in a model: its denoiser, the flow's shift and clamp."""
    found = hashlib.sha256(repr((model.flow.shift, model.flow.t_clamp)).encode())
    for name, tensor in sorted(model.denoiser.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def decoded_once(
    folder: Store, identity: Mapping[str, Any], model: UNITE, draw: Callable[[], Samples]
) -> Samples:
    """`draw()`, or the kept latents of an equal `identity` through the model's own decoder.

    `identity` (JSON values) names the flow, seeds, classes, protocol and batch of the samples.
    """
    digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    name = f"latents-{digest}.npz"
    if folder.is_file(name):
        return _decoded(folder.read(name), model)
    samples = draw()
    folder.write(name, _packed(samples))
    return samples


def _packed(samples: Samples) -> bytes:
    tensors = {name: value for name, value in vars(samples).items() if value is not None}
    del tensors["reconstruction"]
    file = io.BytesIO()
    np.savez(file, **{name: tensor.cpu().numpy() for name, tensor in tensors.items()})
    return file.getvalue()


def _decoded(kept: bytes, model: UNITE) -> Samples:
    with np.load(io.BytesIO(kept), allow_pickle=False) as file:
        tensors = {name: torch.from_numpy(file[name]) for name in file.files}
    device = next(model.parameters()).device
    z_BKD, mask_BK = tensors["z_BKD"].to(device), tensors.get("mask_BK")
    with torch.inference_mode():
        reconstruction = model.decode(z_BKD, None if mask_BK is None else mask_BK.to(device))
    return Samples(**{**tensors, "z_BKD": z_BKD}, reconstruction=reconstruction)
