"""Build a Trainer from a config: model, optimisers, stream, evaluation, checkpoints, in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from unite.checkpoints.store import CheckpointError, CheckpointWriter, read_checkpoint
from unite.config.schema import RunConfig
from unite.data.loader import BatchStream, sequential_batches
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.models.unite import UNITE
from unite.storage import Store
from unite.training.ema import Ema
from unite.training.flops import measure_matmul_rate, training_flops
from unite.training.loop import Plan, Tracker, Trainer
from unite.training.losses import Perceptual, require_perceptual
from unite.training.muon import build_optimizers
from unite.training.parallelize import World, check_replicas, parallelize
from unite.training.progress import ProgressWriter
from unite.training.runs import STOP_FILE, data_uri
from unite.training.step import TrainingStep

STOP_POLL_SECONDS = 1.0
EVAL_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Job:
    """What every rank needs to take part in a run; plain data."""

    config: RunConfig
    folder: Store
    resume_from: Store | None = None


def build_model(config: RunConfig) -> UNITE:
    """A freshly initialised model, the same on every rank."""
    torch.manual_seed(config.training.seed)
    return UNITE(config.model, build_domain(config.domain), config.flow)


def build_trainer(job: Job, world: World, tracker: Tracker, reader: Callable[..., Any]) -> Trainer:
    """Wire one rank's Trainer and restore the checkpoint that the job resumes from.

    `reader` turns planned lane windows into rows (in-process threads, or Ray Data).
    """
    config = job.config
    train = ShardSet.open(data_uri(config, "train"), split="train")
    plan = Plan.of(config, train.num_rows)
    checkpoint = read_checkpoint(job.resume_from) if job.resume_from else None
    stream = _stream(config, train, world, reader, checkpoint.images if checkpoint else 0)
    model = parallelize(build_model(config), config.training, world.device)
    trainer = Trainer(
        config=config,
        plan=plan,
        world=world,
        model=model,
        ema=Ema(model, config.optim.ema_decay),
        optimizers=build_optimizers(model, config.optim),
        step=TrainingStep(model, config, load_perceptual(config, world.device)),
        stream=stream,
        eval_batches=_eval_batches(config, world),
        writer=CheckpointWriter(run=job.folder, config=config.checkpoint),
        tracker=tracker,
        progress=ProgressWriter(run=job.folder),
        should_stop=StopWatch(job.folder) if world.is_main else lambda: False,
        flops_per_image=training_flops(config).model,
        device_flops=measure_matmul_rate(world.device, _dtype(config)),
        manifest_digest=train.digest,
    )
    if checkpoint is not None:
        _check_data(checkpoint.state, train)
        trainer.restore(checkpoint)
    check_replicas(model, world)
    return trainer


class StopWatch:
    """True once the run's STOP file exists; looks from a thread so that a step never waits."""

    def __init__(self, folder: Store) -> None:
        self.folder = folder
        self.found = False
        threading.Thread(target=self._watch, daemon=True, name="stop-watch").start()

    def __call__(self) -> bool:
        return self.found

    def _watch(self) -> None:
        while not self.found:
            time.sleep(STOP_POLL_SECONDS)
            self.found = self.folder.exists(STOP_FILE)


def _stream(
    config: RunConfig, shards: ShardSet, world: World, reader: Callable[..., Any], images: int
) -> BatchStream:
    return BatchStream(
        shards,
        build_domain(config.domain),
        config.data,
        batch_size=config.training.batch_size,
        seed=config.training.seed,
        rank=world.rank,
        world=world.size,
        images_seen=images,
        reader=reader,
    )


def _eval_batches(config: RunConfig, world: World) -> Callable[[], Iterator[Any]]:
    shards = ShardSet.open(data_uri(config, "eval"), split="eval")
    domain = build_domain(config.domain)

    def batches() -> Iterator[Any]:
        return sequential_batches(
            shards,
            domain,
            batch_size=EVAL_BATCH,
            rank=world.rank,
            world=world.size,
            limit=config.evaluation.num_images,
        )

    return batches


def load_perceptual(config: RunConfig, device: torch.device) -> Perceptual | None:
    """LPIPS on the device in the run's precision, or None when its weight is 0."""
    settings = config.loss.perceptual
    if settings.weight == 0:
        return None
    file = require_perceptual(config.weights)
    compiled = config.training.compile
    network = Perceptual(file, settings.input_range, dtype=_dtype(config), compile=compiled)
    return network.to(device)


def _dtype(config: RunConfig) -> torch.dtype:
    return torch.bfloat16 if config.training.precision == "bfloat16" else torch.float32


def _check_data(state: dict[str, Any], shards: ShardSet) -> None:
    if state["manifest_digest"] != shards.digest:
        raise CheckpointError(
            f"the checkpoint was trained on data {state['manifest_digest']}, but data.train now "
            f"holds {shards.digest}: rows would repeat or go missing. Restore the data, or start "
            "with --resume never."
        )
