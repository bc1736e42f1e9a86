"""Placement of a model on devices and ranks: kernels, recompute, compile, gradient averaging.

Data parallelism is one all-reduce of the summed gradients per optimiser step (`exchange.py`), in
the last backward pass of the last micro-batch, instead of torch's DistributedDataParallel: the step
runs several backward passes (one per flow chunk), and none but the last has anything to exchange. A
few host-bound numbers (losses, stop request) are averaged by ranks, so that they agree on them.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from unite.config.schema import TrainingConfig
from unite.models.kernels.choose import use_kernels
from unite.models.unite import UNITE

logger = logging.getLogger(__name__)

T = TypeVar("T")
BUCKET_BYTES = 64 * 2**20
COMPILE_CACHE = "UNITE_COMPILE_CACHE"
CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton"}
"""Variables of torch and Triton, and the folders that they name."""
COMPILED_SHAPES = 64
"""Largest number of versions of a compiled block in one process. torch stops at 8 with an error,
which a second or third model reaches (a benchmark of several F): each has a version for every
sequence length."""


@dataclass(frozen=True, kw_only=True)
class World:
    """Place of this process among the data-parallel ranks."""

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")

    @classmethod
    def current(cls, device: torch.device) -> World:
        """The world of the initialised process group, or a world of one."""
        if not dist.is_initialized():
            return cls(device=device)
        return cls(rank=dist.get_rank(), size=dist.get_world_size(), device=device)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def is_busy(self) -> bool:
        """True if the device has work that is not done; for any thread, and without a wait."""
        if self.device.type != "cuda":
            return False
        try:
            return not torch.cuda.default_stream(self.device).query()
        except RuntimeError:  # it is broken, and the training thread will see why
            return False

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replace tensors by their mean over ranks, in place, in buckets."""
        if self.size == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
            dist.all_reduce(flat)
            flat /= self.size
            pieces = flat.split([tensor.numel() for tensor in bucket])
            for tensor, piece in zip(bucket, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def gather(self, value: T) -> list[T]:
        """The plain data of every rank, in rank order, on every rank."""
        if self.size == 1:
            return [value]
        gathered: list[Any] = [None] * self.size
        dist.all_gather_object(gathered, value)
        return gathered

    def wait_at_most(self, seconds: float) -> None:
        """Give up an exchange with the other ranks after `seconds`: it raises in this rank.

        Torch before 2.15 cannot: the group keeps the limit that it was made with.
        """
        if self.size > 1 and hasattr(dist, "set_timeout"):
            dist.set_timeout(timedelta(seconds=seconds))


def parallelize(model: UNITE, config: TrainingConfig, device: torch.device) -> UNITE:
    """Place the model, then kernels, recompute and compile of its blocks, as configured."""
    model.to(device)
    if config.compile or device.type == "cuda":
        keep_compiled()  # before the kernels are: they are compiled code, too
    if config.kernels == "auto" and device.type == "cuda":
        shape = model.tokenizer.config
        use_kernels(model, device, width=shape.width, num_heads=shape.num_heads)
    for encoder in {model.tokenizer, model.denoiser}:
        encoder.checkpoint_blocks = config.gradient_checkpointing
    if config.compile:
        torch._dynamo.config.recompile_limit = COMPILED_SHAPES
        # On a GPU code for one length is faster than code for any (3% of UNITE-B's step).
        for block in _blocks(model):
            block.compile(fullgraph=True, dynamic=False if device.type == "cuda" else None)
    return model


def keep_compiled() -> None:
    """Keep compiled code in one folder of this node, which its workers and later runs share.

    It is UNITE_COMPILE_CACHE, else ~/.cache/unite/compiled; torch's own where neither can be made.
    """
    named = os.environ.get(COMPILE_CACHE)
    folder = Path(named) if named else Path.home() / ".cache" / "unite" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        logger.warning("compiled code is not kept in %s: %s", folder, error)
        return
    for variable, name in CACHES.items():
        os.environ.setdefault(variable, str(folder / name))


def compile_for_two_gradients() -> None:
    """Compile from here on so that a pass can be differentiated twice: its backward overwrites
    nothing that it reads. What this process has compiled without that is dropped."""
    import torch._functorch.config as settings

    if settings.donated_buffer:
        settings.donated_buffer = False  # part of the key under which compiled code is kept
        torch.compiler.reset()


def check_replicas(model: nn.Module, world: World) -> None:
    """Raise RuntimeError when ranks do not hold the same weights (a broken seed or resume)."""
    if world.size == 1:
        return
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().cpu().numpy().tobytes())
    if len(set(world.gather(digest.hexdigest()))) > 1:
        raise RuntimeError("ranks hold different weights; the same seed must build every replica")


def _blocks(model: UNITE) -> list[nn.Module]:
    encoders = [model.tokenizer]
    if model.denoiser is not model.tokenizer:
        encoders.append(model.denoiser)
    return [block for part in (*encoders, model.decoder) for block in part.blocks]


def _buckets(tensors: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    bucket: list[Tensor] = []
    size = 0
    for tensor in tensors:
        bucket.append(tensor)
        size += tensor.numel() * tensor.element_size()
        if size >= BUCKET_BYTES:
            yield bucket
            bucket, size = [], 0
    if bucket:
        yield bucket
