"""Pretrained files of the perceptual loss: VGG-16's by its digest, and lpips' heads.

lpips would download torchvision's VGG-16 in every process. Here the file must already be there: it
is found by its digest in the weights folder or in torch's cache, and `require_perceptual` says
what is missing before a cluster is touched. The five small heads ship inside the lpips package.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

from unite.weights import MissingWeightsError, Pretrained, find_weights
from unite.words import brings

VGG = Pretrained(
    file="vgg16-397923af.pth",
    digest="397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
    num_bytes=553_433_881,
    purpose="LPIPS (loss.perceptual.weight) needs torchvision's VGG-16 weights",
    remedy="torchvision.models.vgg16(weights='IMAGENET1K_V1') saves it in torch's cache on a "
    "machine with internet access. To train without LPIPS, which is another loss than the paper's, "
    "set loss.perceptual.weight to 0.",
)
HEADS_DIGEST = "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"


def require_perceptual(weights: str = "", *, wanted: Pretrained = VGG) -> str:
    """Path or URI of the VGG-16 weights, or MissingWeightsError with the file and its digest.

    `weights` is RunConfig.weights; tests bring weights of their own as `wanted`. Reads and hashes
    about 0.5 GB.
    """
    heads_file()
    return find_weights(wanted, weights).uri


def heads_file() -> Path:
    """lpips' linear heads, shipped in the package; checked because the loss hangs on them."""
    spec = importlib.util.find_spec("lpips")
    if spec is None or spec.origin is None:
        raise MissingWeightsError(
            "loss.perceptual.weight is not 0, but the package lpips is not installed: "
            f"{brings()}; or set loss.perceptual.weight to 0"
        )
    path = Path(spec.origin).parent / "weights" / "v0.1" / "vgg.pth"
    if hashlib.sha256(path.read_bytes()).hexdigest() != HEADS_DIGEST:
        raise MissingWeightsError(f"{path} is not that of lpips 0.1.4: reinstall the package lpips")
    return path
