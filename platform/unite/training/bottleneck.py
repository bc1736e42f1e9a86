"""The bottleneck of a training on many GPUs, on paper: what each stage could do alone.

Stages overlap (decoding, reading and saving run beside the step, gradients are reduced during the
backward pass), so the slowest one sets the pace. Rates are measured ones or those given.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from unite.config.schema import RunConfig
from unite.domains.stored import Stored, stored_of
from unite.training.flops import training_flops

FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class Machines:
    """GPUs and what stands around them."""

    gpus: int
    rate: float
    """FLOP/s of one GPU at this training."""
    gpus_per_node: int = 8
    cores_per_gpu: float = 8.0
    """CPU cores that decode for one GPU."""
    decode_rate: float = 0.0
    """Samples that one core decodes a second; 0 = as it was measured for the domain."""
    storage_rate: float = 1e9
    """Bytes a second between one node and the storage, both ways."""
    network_rate: float = 12.5e9
    """Bytes a second between one node and the others; p4d.24xlarge has 50e9, g5.12xlarge 5e9."""

    @property
    def nodes(self) -> int:
        """Number of nodes."""
        return math.ceil(self.gpus / self.gpus_per_node)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage's limit."""

    name: str
    images_per_s: float
    """Images a second that it allows; infinity where it does not bind."""
    why: str
    """The figures behind it."""


def stages(config: RunConfig, machines: Machines, *, parameters: int, state: int) -> list[Stage]:
    """Limits of all stages, slowest first.

    `parameters` are trained ones, `state` the bytes of a checkpoint. ValueError when the batch has
    no image for each GPU.
    """
    batch, gpus = config.training.batch_size, machines.gpus
    if gpus > batch or batch % gpus:
        raise ValueError(
            f"--gpus {gpus} must divide training.batch_size = {batch}: every GPU takes the same "
            "number of images of a step"
        )
    stored = stored_of(config.domain)
    found = [
        _compute(config, machines),
        _reduction(machines, batch, FLOAT_BYTES * parameters),
        _checkpoint(config, machines, state),
    ]
    if stored.row_bytes and (machines.decode_rate or stored.rows_per_s):
        found += _reading(machines, stored)
    return sorted(found, key=lambda stage: stage.images_per_s)


def _compute(config: RunConfig, machines: Machines) -> Stage:
    flops = training_flops(config).total
    return Stage(
        name="compute",
        images_per_s=machines.gpus * machines.rate / flops,
        why=f"{machines.gpus} x {machines.rate:.3g} FLOP/s, {flops / 1e9:,.0f} GFLOP per image",
    )


def _reading(machines: Machines, stored: Stored) -> list[Stage]:
    cores = machines.gpus * machines.cores_per_gpu
    each = machines.decode_rate or stored.rows_per_s
    size = stored.row_bytes
    return [
        Stage(
            name="decoding",
            images_per_s=cores * each,
            why=f"{cores:,.0f} cores at {each:,.0f} a second",
        ),
        Stage(
            name="storage",
            images_per_s=machines.nodes * machines.storage_rate / size,
            why=f"{machines.nodes} x {machines.storage_rate / 1e9:.3g} GB/s, "
            f"{size / 1e3:.3g} kB per sample",
        ),
    ]


def _reduction(machines: Machines, batch: int, size: int) -> Stage:
    """Gradients once a step, around a ring of nodes: each sends 2 (n - 1) / n of them."""
    nodes = machines.nodes
    seconds = 2 * (nodes - 1) / nodes * size / machines.network_rate
    where = f"{machines.network_rate / 1e9:.3g} GB/s a node" if seconds else "within one node"
    return Stage(
        name="all-reduce",
        images_per_s=batch / seconds if seconds else math.inf,
        why=f"{size / 1e9:.3g} GB a step of {batch:,} images, {where}",
    )


def _checkpoint(config: RunConfig, machines: Machines, state: int) -> Stage:
    """One save at a time, beside training: the next one waits for it."""
    every, rate = config.checkpoint.every_images, machines.storage_rate
    return Stage(
        name="checkpoint",
        images_per_s=every * rate / state,
        why=f"{state / 1e9:.3g} GB every {every:,} images at {rate / 1e9:.3g} GB/s",
    )
