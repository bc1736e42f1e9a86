"""Latents of samples, kept for models that differ in their decoder alone.

Fine-tuning a decoder leaves the flow as it is, so a parent and all that was made of it draw the
same latents to the bit: they are drawn once, by whoever comes first, and decoded by each.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

from unite.evaluation.arrays import read_arrays, write_arrays
from unite.metrics.errors import MetricError
from unite.models.unite import UNITE
from unite.sampling.generator import Samples
from unite.storage import Store

logger = logging.getLogger(__name__)


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
    if (kept := _kept(folder, name)) is not None:
        return _decoded(kept, model)
    samples = draw()
    tensors = {name: each for name, each in vars(samples).items() if name != "reconstruction"}
    kept = {name: each.cpu().numpy() for name, each in tensors.items() if each is not None}
    write_arrays(folder, name, kept)
    return samples


def _kept(folder: Store, name: str) -> dict[str, np.ndarray] | None:
    """Arrays of kept latents; None where there are none. Damaged ones are told, and are none."""
    if not folder.is_file(name):
        return None
    try:
        return read_arrays(folder.read(name))
    except MetricError as error:
        logger.warning("%s/%s: %s. Its latents are drawn again", folder, name, error)
        return None


def _decoded(kept: Mapping[str, np.ndarray], model: UNITE) -> Samples:
    tensors = {name: torch.from_numpy(array) for name, array in kept.items()}
    device = next(model.parameters()).device
    z_BKD, mask_BK = tensors["z_BKD"].to(device), tensors.get("mask_BK")
    with torch.inference_mode():
        reconstruction = model.decode(z_BKD, None if mask_BK is None else mask_BK.to(device))
    return Samples(**{**tensors, "z_BKD": z_BKD}, reconstruction=reconstruction)
