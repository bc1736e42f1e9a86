"""Memory that a worker of a run needs, before it starts, compared with the machine's.

A training step of a few samples is run on torch's meta device, which computes shapes and no
numbers, and the bytes of all tensors alive are followed: gradients, activations and what passes
between (of a decoder's fine-tuning both players' turns). Compiled blocks of the joint step keep
less than the trace, by measured factors. Weights,
their average and the optimiser's moments are counted, and so is the copy that a checkpoint is
written from. LPIPS is counted from the layers of its VGG. What is left out (the stream's compressed
rows, fragmentation, compiled code) is why a run that just fits may not.
"""

from __future__ import annotations

import functools
import os
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from unite.config.finetune import FinetuneRunConfig, as_trained
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.config.workers import accumulation, sizes
from unite.domains import Domain, build_domain
from unite.models import optimizer_group
from unite.models.unite import UNITE
from unite.training.adversarial import AdversarialObjective
from unite.training.flops import VGG_CONVOLUTIONS
from unite.training.objective import MicroBatch
from unite.training.schedule import Plan
from unite.training.step import Address, TrainingStep

FLOAT_BYTES = 4
PROCESS_BYTES = 600 * 2**20
"""A worker process with its libraries."""
HALF = 0.6
"""Size of activations in bfloat16 relative to float32: norms and sums stay float32."""
COMPILED, RECOMPUTED, EAGER = 0.48, 0.74, 1.1
"""Peak of a GPU's step in bfloat16 over that of the trace (both without LPIPS): compiled blocks,
compiled blocks with recompute, eager ones. From UNITE-B with 128 images on an H200 (2026-11-26), in
GiB: compiled 62.0 (F = 14, chunk 2) and 71.1 (F = 3), with recompute 44.6 and 22.3; that is 0.44 to
0.46 and 0.67 to 0.71. Eager: 79.6 with 64 images at F = 3, where the trace has 75.7."""
TRACED = (1, 128)
"""Numbers of samples that are traced. The peak is the larger of several lines, so that the straight
one through both is never under it in between."""
CGROUP_FILES = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


@dataclass(frozen=True, kw_only=True)
class WorkerMemory:
    """Memory of one worker in bytes, by purpose."""

    state: int
    """Weights, their average, the optimiser's moments."""
    step: int
    """The peak of a step: gradients and activations of one micro-batch."""
    host: int
    """Main memory, whatever the device: the process and the copy of a checkpoint."""

    @property
    def device(self) -> int:
        """Memory on the device that trains, in bytes."""
        return self.state + self.step


def worker_memory(config: RunConfig, *, measured: bool = True) -> WorkerMemory:
    """Estimate for a valid config, with samples of the most registers.

    `measured` corrects a GPU's step downwards, too; False leaves the trace where that is more.
    """
    config = as_trained(config)
    micro = largest_micro_batch(config)
    if isinstance(config, FinetuneRunConfig):
        state, step = _finetune_bytes(config, micro)
    else:
        state, step = _joint_bytes(config, micro, measured)
    return WorkerMemory(state=state, step=step, host=PROCESS_BYTES + state)


def largest_micro_batch(config: RunConfig) -> int:
    """Images that a worker takes through the model at once, with the most workers."""
    workers = sizes(config.cluster, config.training.batch_size)[-1]
    count = accumulation(config.training, config.cluster, workers)
    return config.training.batch_size // (workers * count)


def _joint_bytes(config: RunConfig, images: int, measured: bool) -> tuple[int, int]:
    """Bytes of state and of a step's peak of joint training."""
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
    gradients = FLOAT_BYTES * sum(p.numel() for p in model.parameters() if p.requires_grad)
    factor = _factor(config) if measured else max(_factor(config), 1.0)
    activations = round(factor * _activations(_as_traced(config), images))
    step = gradients + activations + _perceptual_bytes(config, images)
    return state_bytes(model, muon=config.optim.muon), step


def _factor(config: RunConfig) -> float:
    """Peak of a GPU's step over that of the trace."""
    training = config.training
    if not config.cluster.use_gpu or training.precision != "bfloat16":
        return 1.0
    if not training.compile:
        return EAGER
    return RECOMPUTED if training.gradient_checkpointing else COMPILED


def machine_memory() -> int:
    """Main memory that this process may use, in bytes: of the machine, or of its container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in CGROUP_FILES:
        text = Path(name).read_text().strip() if Path(name).is_file() else ""
        if text.isdecimal():
            total = min(total, int(text))
    return total


def usable_gpus() -> int:
    """Number of this machine's GPUs that torch can use.

    `device_count` asks the driver, and also counts those that a driver too old for this torch, or
    one that is not ready, cannot start: any other question on them raises.
    """
    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def gpu_memory() -> int:
    """Memory of this machine's smallest GPU in bytes; 0 without one."""
    sizes = [torch.cuda.get_device_properties(index).total_memory for index in range(usable_gpus())]
    return min(sizes, default=0)


class _Alive(TorchDispatchMode):
    """Follows the bytes of the storages that operations make."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: Any) -> None:
        if getattr(storage, "followed", False):
            return
        storage.followed = True
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, size)

    def _drop(self, size: int) -> None:
        self.now -= size


def state_bytes(model: UNITE, *, muon: bool) -> int:
    """Bytes of weights, average, and one (Muon) or two (AdamW) moments of trained parameters."""
    weights = sum(tensor.numel() for tensor in model.state_dict().values())
    moments = sum(
        parameter.numel() * (1 if muon and optimizer_group(name, parameter) == "muon" else 2)
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    )
    return FLOAT_BYTES * (2 * weights + moments)


def checkpoint_bytes(config: RunConfig) -> int:
    """Bytes of a checkpoint of a run: weights, their average, moments of all that is trained."""
    config = as_trained(config)
    if isinstance(config, FinetuneRunConfig):
        return _players_state(_stage(config))
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
    return state_bytes(model, muon=config.optim.muon)


def _as_traced(config: RunConfig) -> RunConfig:
    """The config of which alone activations depend, and not on a batch or a name: two chunks tell
    the peak of many."""
    flow, training = config.flow, config.training
    changes = {
        "flow.steps": min(flow.steps, 2 * (flow.chunk or flow.steps)),
        "loss.perceptual.weight": 0.0,
        "training.precision": training.precision,
        "training.gradient_checkpointing": training.gradient_checkpointing,
    }
    same = RunConfig(
        domain=config.domain,
        model=config.model,
        flow=flow,
        loss=config.loss,
        reconstruction_noise=config.reconstruction_noise,
    )
    return replace(same, changes)


def _activations(config: RunConfig, images: int) -> float:
    """Bytes alive at the peak of a step of so many images beside the gradients, in its precision"""
    few, more = (_traced_peak(config, number) for number in TRACED)
    each = (more - few) / (TRACED[1] - TRACED[0])
    peak = max(few + (images - TRACED[0]) * each, 0.0)
    return peak * (HALF if config.training.precision == "bfloat16" else 1.0)


@functools.lru_cache(maxsize=256)
def _traced_peak(config: RunConfig, images: int) -> int:
    """Bytes beside the gradients at the peak of a traced step in float32."""
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
    for encoder in {model.tokenizer, model.denoiser}:
        encoder.checkpoint_blocks = config.training.gradient_checkpointing
    step = TrainingStep(model, replace(config, {"training.precision": "float32"}), None)
    alive = _Alive()
    with torch.device("meta"):
        part = _micro_batch(model.domain, images)
        with alive:
            step.backward(*part, flow_weight=1.0)
    gradients = FLOAT_BYTES * sum(p.numel() for p in model.parameters() if p.requires_grad)
    return max(alive.peak - gradients, 0)


def _finetune_bytes(config: FinetuneRunConfig, images: int) -> tuple[int, int]:
    """Bytes of state and of a step's peak of both players, once the adversary has weight.

    The discriminator's graph and that of LPIPS are not alive at the same time.
    """
    stage = _stage(config)
    step = _players_peak(stage, images)
    if lpips := _perceptual_bytes(config, images):
        control = _stage(replace(config, {"adversarial.weight": 0.0}))
        step = max(step, _players_peak(control, images) + lpips)
    return _players_state(stage) + _undo_bytes(stage), step


def _stage(config: FinetuneRunConfig) -> AdversarialObjective:
    """Players without numbers, of float32 and without LPIPS."""
    plain = {"loss.perceptual.weight": 0.0, "training.precision": "float32"}
    config = replace(config, {**plain, "training.compile": False})
    with torch.device("meta"):
        model = UNITE(config.model, build_domain(config.domain), config.flow)
        model.tokenizer.checkpoint_blocks = config.training.gradient_checkpointing
        return AdversarialObjective(model, config, None, Plan.of(config, images_per_epoch=1))


def _players_state(stage: AdversarialObjective) -> int:
    """Bytes of the model, its average, the discriminator and both players' moments."""
    decoder = sum(p.numel() for p in stage.decoder.parameters)
    total = 2 * sum(tensor.numel() for tensor in stage.model.state_dict().values()) + 2 * decoder
    if (adversary := stage.adversary) is not None:
        trained = sum(p.numel() for p in adversary.parameters)
        own = sum(tensor.numel() for tensor in adversary.judge.state_dict().values())
        total += own + 2 * trained
    return FLOAT_BYTES * total


def _undo_bytes(stage: AdversarialObjective) -> int:
    """Bytes of the copies that take back a step whose numbers are not finite (`Undo`)."""
    decoder = sum(p.numel() for p in stage.decoder.parameters)
    return FLOAT_BYTES * 3 * decoder if stage.adversary is not None else 0


def _players_peak(stage: AdversarialObjective, images: int) -> int:
    """Bytes alive at the peak of a step, in which every player has weight."""
    domain, alive = stage.model.domain, _Alive()
    players = stage.turns(stage.plan.total_images)
    with torch.device("meta"):
        part = _micro_batch(domain, images)
        with alive:
            for player in players:
                player.zero_grad()
                player.backward(part, stage.plan.total_images, 1.0)
                player.combine()
                player.stepped(torch.zeros((), dtype=torch.bool))
    tensors = [*stage.decoder.parameters, *(stage.adversary.parameters if stage.adversary else ())]
    gradients = FLOAT_BYTES * sum(p.numel() for p in tensors)
    share = HALF if stage.config.finetune.precision == "bfloat16" else 1.0
    return gradients + round(share * max(alive.peak - gradients, 0))


def _micro_batch(domain: Domain, images: int) -> MicroBatch:
    """A micro-batch without numbers."""
    sample, labels_B = domain.to_sample(_fields(domain, images))
    rows_B = torch.zeros(images, dtype=torch.int64)
    return MicroBatch(sample, labels_B, Address(seed=0, epochs_B=rows_B, rows_B=rows_B))


def _fields(domain: Domain, num: int) -> dict[str, Tensor]:
    """Decoded fields of `num` samples by shape and type alone."""
    one = domain.example_fields(1, np.random.default_rng(0))
    return {
        name: torch.from_numpy(array).to("meta").expand(num, *array.shape[1:]).contiguous()
        for name, array in one.items()
    }


def _perceptual_bytes(config: RunConfig, images: int) -> int:
    """Bytes that LPIPS keeps of a reconstruction, before and after each ReLU of its VGG."""
    side = build_domain(config.domain).perceptual_side
    if not config.loss.perceptual.weight or not side:
        return 0
    kept = sum(2 * channels * (side >> half) ** 2 for _, channels, half in VGG_CONVOLUTIONS)
    width = 2 if config.training.precision == "bfloat16" else FLOAT_BYTES
    return images * kept * width
