"""The training loop: images in, checkpoints, metrics and samples out. Knows no Ray, no MLflow.

Progress is counted in images seen; schedules, logging, evaluation and checkpoints derive from it.
A run is a pure function of its config and data: what a step draws is addressed by (seed, epoch,
row), the data position is the image counter, and a checkpoint holds the rest, so a resumed run
continues to the bit.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from unite.checkpoints.load import check_keys
from unite.checkpoints.store import Checkpoint, CheckpointWriter, folder_of
from unite.config.schema import RunConfig
from unite.config.serialise import to_dict
from unite.config.workers import accumulation
from unite.flow import NOISE_VERSION
from unite.metrics.specs import direction
from unite.models.unite import UNITE
from unite.sampling.grid import save_png
from unite.storage import StorageError
from unite.training.ema import Ema
from unite.training.evaluation import GRID_FILE, evaluate_reconstruction, sample_grid
from unite.training.flops import DeviceRate
from unite.training.interruptions import Interruption, note_resumed
from unite.training.micro_batches import micro_batches
from unite.training.monitors import non_finite
from unite.training.objective import Objective, Player, Undo
from unite.training.parallelize import World
from unite.training.progress import ProgressWriter
from unite.training.rates import Window
from unite.training.readout import Readout
from unite.training.requests import Request, Source
from unite.training.schedule import Plan, learning_rate

logger = logging.getLogger(__name__)

LEAVING_NOW = Request.STOP | Request.LEAVE
LEAVING = LEAVING_NOW | Request.MAKE_ROOM
# Numbers of each rank that ride in the exchange of the losses.
FLAGS = ("request", "bad")


class Tracker(Protocol):
    """Receiver of metrics, pictures and files (the tracking room implements it)."""

    def log(self, metrics: Mapping[str, float], step: int) -> None: ...

    def image(self, key: str, image: np.ndarray, step: int, /) -> None: ...

    def close(self) -> None: ...


class Stream(Protocol):
    """Endless share of the global batches for this rank (the data room implements it)."""

    wait_seconds: float
    bad: Any

    def __next__(self) -> Any: ...

    def close(self) -> None: ...


@dataclass(kw_only=True)
class Trainer:
    """Everything that one rank trains with; `run` is the loop."""

    config: RunConfig
    """Settings of this training (`as_trained`)."""
    plan: Plan
    world: World
    model: UNITE
    ema: Ema
    objective: Objective
    stream: Stream
    eval_batches: Callable[[], Iterator[Any]]
    writer: CheckpointWriter
    tracker: Tracker
    progress: ProgressWriter
    requests: Source
    """Requests to this rank; of all ranks, rank 0 alone has any."""
    flops_per_image: float
    device_rate: DeviceRate
    manifest_digest: str
    images: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    evaluated_at: int = -1
    """Images seen when `metrics` were last evaluated."""
    bad_rows: int = 0
    """Unreadable rows so far, of all ranks."""
    bad_rows_before: int = 0
    """Unreadable rows that the checkpoint had counted from which this process continues."""
    interrupted: Interruption | None = None
    """Interruption after which rank 0 goes on."""
    stored_config: RunConfig | None = None
    """Config that checkpoints hold, where it is not `config`."""

    def __post_init__(self) -> None:
        self.readout = Readout(
            self.writer,
            self.plan.batch_size,
            patience=self.objective.patience,
            advice=self.objective.advice,
            noun=self.model.domain.noun,
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue exactly after `checkpoint`; CheckpointError for one of another architecture."""
        check_keys(self.model.state_dict(), checkpoint.parts["model"])
        self.model.load_state_dict(checkpoint.parts["model"])
        self.ema.load_state_tensors(checkpoint.parts["ema"])
        self.objective.load_state(checkpoint.parts)
        self.images = self.writer.committed_images = checkpoint.images
        self.history = list(checkpoint.state["history"])
        self.metrics = dict(checkpoint.state["metrics"])
        self.bad_rows = self.bad_rows_before = checkpoint.state.get("bad_rows", 0)
        self.readout.skipped = checkpoint.state.get("skipped_steps", 0)

    def run(self) -> dict[str, Any]:
        """Train to the end or until asked to stop or to leave; returns a JSON-able summary.

        A fresh run is evaluated before its first step: an evaluation that cannot work ends it at
        once and not after hours, and its curves begin with the untrained model.
        """
        started, first = time.monotonic(), self.images
        request, leaves = Request.NONE, False
        if self.images == 0:
            self._evaluate()
        window = Window(self)
        while self.images < self.plan.total_images and not leaves:
            values, request = self.train_step(next(self.stream))
            self.images += self.plan.batch_size
            if self.interrupted is not None:
                note_resumed(self.interrupted, self.writer.run, self.tracker, first, self.images)
                self.interrupted = None
            done = self.images >= self.plan.total_images
            rates = window.rates()
            if self._log_due() or done:
                self._log(values, rates)
            self._publish(values | rates)
            if self._due(self.config.evaluation.every_images) or done:
                with window.paused():
                    self._evaluate()
            kept = self._due(self.config.checkpoint.every_images) or done or request & LEAVING_NOW
            if kept or request & Request.SAVE:
                self._save(kept=bool(kept))
                leaves = bool(request & LEAVING)
        state = "done"
        if leaves and not done:
            state = "stopped" if request & Request.STOP else "leaving"
        if self.world.is_main:
            self.writer.close()
            self.progress.write(state, self._position(), force=True)
            self.progress.close()
        seconds = time.monotonic() - started
        return self._summary(state, seconds, self.images - first)

    def train_step(self, batch: Any) -> tuple[dict[str, float], Request]:
        """Make one optimiser step; returns averaged terms, and what was asked for before it.

        A step whose terms or gradient are not finite changes nothing: the optimisers skip it on the
        device. A GPU is waited for only where the numbers are needed (`_reads_now`); in between
        the values returned, and checked, are those of the step before.
        """
        self.batch = batch
        turns = self.objective.turns(self.images)
        undo = Undo(turns[:-1]) if len(turns) > 1 else None
        # As float32, which counts to 16 million exactly; averaged over ranks like the rest.
        flags = [float(self.requests()), float(self.stream.bad.total)]
        shared = torch.tensor(flags).to(self.world.device, non_blocking=True)
        names, control = [*FLAGS], None
        for player in turns:
            more, values = self._turn(player, shared if control is None else None, control)
            names = [*names, *more]
            control = values if control is None else torch.cat([control, values])
        assert control is not None
        if undo is None:
            self.ema.update()
        else:
            undo.where(non_finite(control))
            self.ema.update(skip=non_finite(control))
        values = self.readout.read(names, control, self.images, now=self._reads_now())
        request, bad = (round(values.pop(flag, 0.0) * self.world.size) for flag in FLAGS)
        self.bad_rows = self.bad_rows_before + bad
        return values | {"lr": self._learning_rate()}, Request(request)

    def _turn(
        self, player: Player, shared: Tensor | None, before: Tensor | None
    ) -> tuple[list[str], Tensor]:
        """Train one player; returns names and values: those `shared` by ranks first, its terms.

        It is not trained where any of its numbers, or of those `before`, is not finite.
        """
        names, terms = self._accumulate(player)
        control = terms if shared is None else torch.cat([shared, terms])
        self.world.average_([*player.averaged(), control])
        grads, further = player.combine()
        norm = torch.nn.utils.get_total_norm(grads)
        if self.config.optim.grad_clip:
            limit = self.config.optim.grad_clip
            torch._foreach_mul_(grads, (limit / (norm + 1e-6)).clamp(max=1.0))
        ends = torch.stack([norm, *further.values()])
        control = torch.cat([control, ends.to(control)])
        self.writer.settle()  # a checkpoint's copy may still be reading the weights
        skip = non_finite(control if before is None else torch.cat([before, control]))
        for optimizers, factor in player.optimizers:
            optimizers.set_lr(factor * self._learning_rate())
            optimizers.step(skip=skip)
        player.stepped(skip)
        return [*names, player.norm, *further], control

    def _reads_now(self) -> bool:
        """True if this step logs, evaluates, saves or ends, and so must know its own numbers."""
        after = self.images + self.plan.batch_size
        periods = (
            self.config.training.log_every_steps * self.plan.batch_size,
            self.config.evaluation.every_images,
            self.config.checkpoint.every_images,
        )
        crossed = any(after // every > self.images // every for every in periods)
        return crossed or after >= self.plan.total_images

    def _accumulate(self, player: Player) -> tuple[list[str], Tensor]:
        """Gradients of all micro-batches; names and means of the terms, as one tensor."""
        player.zero_grad()
        training, domain, terms = self.config.training, self.model.domain, dict[str, Tensor]()
        count = accumulation(training, self.config.cluster, self.world.size)
        parts = micro_batches(self.batch, count, domain, training, self.world.device)
        for n, part in enumerate(parts, 1):
            for k, v in player.backward(part, self.images, 1 / count, last=n == count).items():
                terms[k] = terms.get(k, torch.zeros_like(v)) + v / count
        return list(terms), torch.stack(list(terms.values()))

    def _learning_rate(self) -> float:
        return learning_rate(
            self.images,
            self.config.optim,
            batch_size=self.plan.batch_size,
            images_per_epoch=self.plan.images_per_epoch,
            total_images=self.plan.total_images,
        )

    def _due(self, every: int) -> bool:
        return self.images // every > (self.images - self.plan.batch_size) // every

    def _log_due(self) -> bool:
        return self._due(self.config.training.log_every_steps * self.plan.batch_size)

    def _log(self, values: dict[str, float], rates: dict[str, float]) -> None:
        if not self.world.is_main:
            return
        values = {
            **values,
            **self.objective.values(self.images),
            "epoch": self.images / self.plan.images_per_epoch,
            "data/bad_fraction": self.bad_rows / self.images,
        }
        if self.objective.patience > 1:
            values["grad/skipped"] = float(self.readout.skipped)
        if self.world.device.type == "cuda":
            values["memory/device_peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
        if warning := self.objective.warning(values, self.images, self.batch.fields):
            logger.warning(warning)
        self.history.append({"images": self.images, **values})
        self.metrics |= values
        lag = {
            "checkpoint/lag_s": self.writer.lag_seconds,
            "checkpoint/lag_images": self.images - self.writer.committed_images,
        }
        self.tracker.log(values | rates | lag, step=self.images)

    def _publish(self, values: dict[str, float]) -> None:
        if self.world.is_main:
            self.progress.write("training", {**self._position(), **values})

    def _evaluate(self) -> None:
        if self.world.is_main:
            self.progress.write("evaluating", self._position(), force=True)
        model = cast(UNITE, self.ema.module())
        results = evaluate_reconstruction(
            model, self.eval_batches(), self.world, self.config.training.seed
        )
        self.metrics |= results
        self.evaluated_at = self.images
        if self.world.is_main:
            self.history.append({"images": self.images, **results})
            self.tracker.log(results, step=self.images)
            grid = sample_grid(model, self.config)
            self.tracker.image("samples", grid, self.images)
            try:
                save_png(self.writer.run, GRID_FILE, grid)
            except StorageError as error:
                logger.warning("the sample grid is not in the run's folder: %s", error)

    def _save(self, *, kept: bool = True) -> None:
        self.readout.settle()
        if not self.world.is_main:
            return
        parts = {
            "model": self.model.state_dict(),
            "ema": self.ema.state_tensors(),
            **self.objective.state(),
        }
        state = {
            "images": self.images,
            "step": self.images // self.plan.batch_size,
            "config": to_dict(self.stored_config or self.config),
            "manifest_digest": self.manifest_digest,
            "metrics": dict(self.metrics),
            "history": list(self.history),
            "score": self._score(),
            "bad_rows": self.bad_rows,
            "noise": NOISE_VERSION,
        }
        if self.objective.patience > 1:
            state["skipped_steps"] = self.readout.skipped
        self.writer.save(parts, state, kept=kept)

    def _score(self) -> float | None:
        """Score, higher = better, that keeps the best; None unless these weights were evaluated."""
        metric = self.model.domain.best_metric
        value = self.metrics.get(f"eval/{metric}")
        if self.evaluated_at != self.images or value is None:
            return None
        return -value if direction(metric) == "lower" else value

    def _position(self) -> dict[str, int]:
        return {"images": self.images, "total_images": self.plan.total_images}

    def _summary(self, state: str, seconds: float, images: int) -> dict[str, Any]:
        return {
            "stopped": state == "stopped",
            "leaving": state == "leaving",
            "seconds": seconds,
            "images_per_s": images / seconds if images else 0.0,
            "checkpoint": str(folder_of(self.writer.run, self.images)),
            "metrics": self.metrics,
            **self._position(),
        }
