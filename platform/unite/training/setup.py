"""Build a Trainer from a config: model, optimisers, stream, evaluation, checkpoints, in order."""

from __future__ import annotations

import logging
import socket
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from unite.checkpoints.lease import Lease
from unite.checkpoints.load import STATISTICS, load
from unite.checkpoints.store import (
    MARKER,
    Checkpoint,
    CheckpointError,
    CheckpointWriter,
    checkpoint_digest,
    read_checkpoint,
)
from unite.config.finetune import FinetuneRunConfig, as_trained
from unite.config.schema import RunConfig
from unite.data.bad_rows import BadRowList
from unite.data.loader import BatchStream, sequential_batches
from unite.data.parts import Split, require_domains
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.flow import NOISE_VERSION
from unite.models.unite import UNITE
from unite.runs import data_uri
from unite.storage import StorageError, Store
from unite.training.adversarial import AdversarialObjective
from unite.training.ema import Ema
from unite.training.fit import check_device, settle
from unite.training.flops import DeviceRate, compute_dtype, training_flops
from unite.training.interruptions import present
from unite.training.joint import JointObjective
from unite.training.loop import Plan, Tracker, Trainer
from unite.training.losses import Perceptual
from unite.training.objective import Objective
from unite.training.parallelize import World, check_replicas, parallelize
from unite.training.progress import ProgressWriter
from unite.training.requests import (
    Interval,
    Notice,
    NoticeWatch,
    Source,
    StopWatch,
    joined,
    no_notice,
    nothing,
)
from unite.training.runs import Run
from unite.training.vgg import require_perceptual
from unite.words import count

logger = logging.getLogger(__name__)

TOKEN_FILE = "token"
EVAL_BATCH = 64
STATISTICS_BATCH = 1024


@dataclass(frozen=True, kw_only=True)
class Job:
    """Plain data that every rank needs to take part in a run."""

    config: RunConfig
    folder: Store
    resume_from: Store | None = None
    token: str = ""
    """Random text that the driver wrote to TOKEN_FILE; empty = it wrote none."""
    owner: str = ""
    """Mark of the driver, which its requests to stop carry."""
    start_from: Store | None = None
    """Checkpoint or export with the first weights of a fine-tuning."""

    @classmethod
    def of(cls, run: Run, owner: str = "") -> Job:
        """The job of a begun run; leaves a token by which ranks know that they see its folder.

        `owner` defaults to that token.
        """
        token = uuid.uuid4().hex
        run.folder.write(TOKEN_FILE, token.encode())
        return cls(
            config=run.config,
            folder=run.folder,
            resume_from=run.resume_from,
            token=token,
            owner=owner or token,
            start_from=run.start_from,
        )


def require_token(job: Job) -> None:
    """StorageError unless this process sees the very folder that the driver wrote to.

    A folder of the same name on this node's own disk would look like a run without checkpoints,
    and training would silently start at image 0.
    """
    if not job.token:
        return
    found = job.folder.read(TOKEN_FILE) if job.folder.exists(TOKEN_FILE) else b""
    if found != job.token.encode():
        raise StorageError(
            f"storage = {job.config.storage}: on node {socket.gethostname()} it is not the folder "
            "that the driver sees, so checkpoints would be lost with a node. With several nodes "
            "--storage must be a place that all of them reach: s3://... or a shared folder"
        )


def build_model(config: RunConfig) -> UNITE:
    """A freshly initialised model, the same on every rank."""
    torch.manual_seed(config.training.seed)
    return UNITE(config.model, build_domain(config.domain), config.flow)


def build_trainer(
    job: Job,
    world: World,
    tracker: Tracker,
    reader: Callable[..., Any],
    lease: Lease | None = None,
    look: Callable[[], Notice | None] = no_notice,
    asks: Source = nothing,
) -> Trainer:
    """Wire one rank's Trainer and restore the checkpoint that the job resumes from.

    `reader` turns planned lane windows into rows (in-process threads, or Ray Data). `lease` is rank
    0's right to write; None = nobody else can. `look` sees notices that nodes go away, `asks`
    has what else the cluster asks of the run.
    """
    config, lease = as_trained(job.config), lease or Lease()
    require_token(job)
    check_device(config, world.device)
    train = open_split(config, "train")
    plan = Plan.of(config, train.num_rows)
    checkpoint = read_checkpoint(job.resume_from) if job.resume_from else None
    images = checkpoint.images if checkpoint else 0
    stream = _stream(config, job.folder, train, world, reader, images)
    writer = CheckpointWriter(run=job.folder, config=config.checkpoint, lease=lease)
    model = parallelize(_first_model(job, config, train, world), config.training, world.device)
    perceptual = load_perceptual(config, world.device)
    config = settle(config, model, perceptual, world.device)
    trainer = Trainer(
        config=config,
        plan=plan,
        world=world,
        model=model,
        ema=Ema(model, config.optim.ema_decay),
        objective=build_objective(model, config, perceptual, plan, world),
        stream=stream,
        eval_batches=_eval_batches(config, world),
        writer=writer,
        tracker=tracker,
        progress=ProgressWriter(
            run=job.folder, lease=lease, noun=model.domain.noun, workers=world.size
        ),
        requests=_requests(job, writer, look, asks) if world.is_main else nothing,
        flops_per_image=training_flops(config).model,
        device_rate=DeviceRate(
            world.device, compute_dtype(config), stated=1e12 * config.cluster.device_tflops
        ),
        manifest_digest=train.digest,
        interrupted=present(job.folder) if world.is_main else None,
        stored_config=job.config,
    )
    if checkpoint is not None:
        _check_data(checkpoint.state, train)
        _check_statistics(model, checkpoint)
        if world.is_main:
            _tell_other_noise(checkpoint.state, model.domain.noun)
        trainer.restore(checkpoint)
    check_replicas(model, world)
    return trainer


def _requests(
    job: Job, writer: CheckpointWriter, look: Callable[[], Notice | None], asks: Source
) -> Source:
    """All that may be asked of a run, for rank 0."""
    return joined(
        StopWatch(job.folder, job.owner),
        NoticeWatch(look, lambda: writer.lag_seconds),
        Interval(job.config.checkpoint.every_minutes, lambda: writer.saved_at),
        asks,
    )


def build_objective(
    model: UNITE,
    config: RunConfig,
    perceptual: Perceptual | None,
    plan: Plan,
    world: World | None = None,
) -> Objective:
    """The purpose of a training, told by the kind of its config; fresh weights are the seed's."""
    if isinstance(config, FinetuneRunConfig):
        torch.manual_seed(config.training.seed)
        return AdversarialObjective(model, config, perceptual, plan)
    return JointObjective(model, config, perceptual, plan.total_images, world)


def _first_model(job: Job, config: RunConfig, train: ShardSet, world: World) -> UNITE:
    """Fresh, or a fine-tuning's parent; CheckpointError when that is no longer what was named."""
    if not isinstance(config, FinetuneRunConfig) or job.resume_from:
        model = build_model(config)
        model.statistics.take(_statistics(config, train, world))
        return model
    if job.start_from is None:
        raise ValueError(f"the fine-tuning {job.folder} has no parent to start from: name its run")
    wanted, place = config.parent.digest, job.start_from
    if place.exists(MARKER) and checkpoint_digest(place) != wanted:
        raise CheckpointError(f"{place} is no longer the checkpoint {wanted} that was to be tuned")
    return load(place.uri, ema=config.finetune.start_from == "ema")


def open_split(config: RunConfig, split: Split) -> ShardSet:
    """The shards of a split of a resolved config, with the columns that its domain reads.

    ShardError when the folder holds samples of another domain.
    """
    domain, uri = build_domain(config.domain), data_uri(config, split)
    require_domains(uri, domain.folders, f"recipe {config.recipe}")
    return ShardSet.open(uri, split, domain.columns)


def _stream(
    config: RunConfig,
    folder: Store,
    shards: ShardSet,
    world: World,
    reader: Callable[..., Any],
    images: int,
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
        bad_rows=BadRowList(folder, rank=world.rank, images_seen=images),
    )


def _eval_batches(config: RunConfig, world: World) -> Callable[[], Iterator[Any]]:
    shards = open_split(config, "eval")
    domain = build_domain(config.domain)

    def batches() -> Iterator[Any]:
        """Batches of this rank's held-out samples, from the first, in order."""
        return sequential_batches(
            shards,
            domain,
            batch_size=EVAL_BATCH,
            rank=world.rank,
            world=world.size,
            limit=config.evaluation.num_images,
            decode_threads=config.data.decode_threads,
            max_bad_fraction=config.data.max_bad_fraction,
        )

    return batches


def load_perceptual(config: RunConfig, device: torch.device) -> Perceptual | None:
    """LPIPS on the device in the run's precision, or None when its weight is 0."""
    settings = config.loss.perceptual
    if settings.weight == 0:
        return None
    file = require_perceptual(config.weights)
    compiled = config.training.compile
    network = Perceptual(file, settings.input_range, dtype=compute_dtype(config), compile=compiled)
    if compiled and device.type == "cuda":
        network.compile(dynamic=False)  # with its VGG: 41 instead of 70 ms for 128 images
    return network.to(device)


def _check_data(state: dict[str, Any], shards: ShardSet) -> None:
    if state["manifest_digest"] != shards.digest:
        raise CheckpointError(
            f"the checkpoint was trained on data {state['manifest_digest']}, but data.train now "
            f"holds {shards.digest}: rows would repeat or go missing. Restore the data, or start "
            "with --resume never."
        )


def _statistics(config: RunConfig, train: ShardSet, world: World) -> dict[str, torch.Tensor]:
    """Statistics of the training set that its domain asks for; read by one rank for all."""

    def fields() -> Iterator[Any]:
        """Stored columns of the whole training set, batch by batch."""
        batches = sequential_batches(
            train,
            domain,
            batch_size=STATISTICS_BATCH,
            decode_threads=config.data.decode_threads,
            max_bad_fraction=config.data.max_bad_fraction,
        )
        yield from (batch.fields for batch in batches)

    domain = build_domain(config.domain)
    return world.gather(domain.statistics(fields()) if world.is_main else {})[0]


def _check_statistics(model: UNITE, checkpoint: Checkpoint) -> None:
    """CheckpointError when a model's statistics are not those of the training set at hand."""
    stored = checkpoint.parts["model"]
    for name, tensor in model.statistics.tensors.items():
        kept = stored.get(f"{STATISTICS}{name}")
        if kept is None or not torch.equal(kept, tensor.cpu()):
            raise CheckpointError(
                f"the checkpoint keeps other statistics of its training set ({name}) than "
                "data.train gives. Restore the data and domain.*, or start with --resume never."
            )


def _tell_other_noise(state: dict[str, Any], noun: str) -> None:
    """Warn that a checkpoint was trained on another version of the noise; it is continued."""
    if state.get("noise") != NOISE_VERSION:
        logger.warning(
            "the checkpoint after %s was trained on noise of another version of unite. "
            "Training goes on with this version's: as good, but not to the bit what a run without "
            "interruption would have given",
            count(state["images"], noun),
        )
