"""The two arms of train_step.py: the platform's step, and a straightforward one."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, Protocol, cast

import torch
from random_lpips import random_perceptual
from torch import Tensor

from unite.checkpoints.store import CheckpointWriter
from unite.config.schema import RunConfig
from unite.domains import build_domain
from unite.models.groups import optimizer_group
from unite.models.unite import UNITE
from unite.training.ema import Ema
from unite.training.joint import JointObjective
from unite.training.loop import Plan, Trainer
from unite.training.parallelize import World, parallelize
from unite.training.readout import Readout
from unite.training.requests import nothing
from unite.training.schedule import learning_rate
from unite.training.step import Address, TrainingStep


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Setting of one row: the config, and the parts that both arms share."""

    config: RunConfig
    device: torch.device
    weights: dict[str, Tensor]
    perceptual: Callable[[Tensor, Tensor], Tensor] | None
    plan: Plan

    @classmethod
    def of(cls, config: RunConfig, device: torch.device, images: int) -> Setting:
        """A row's setting on a set of so many images: seeded weights, LPIPS on random ones.

        The flow's weight is full from the first step; the plain arm has no flip of its own.
        """
        domain = config.domain
        config = replace(
            config,
            flow=replace(config.flow, warmup_fraction=0.0),
            domain=replace(domain, flip=False) if hasattr(domain, "flip") else domain,
        )
        torch.manual_seed(0)
        model = UNITE(config.model, build_domain(config.domain), config.flow)
        return cls(
            config=config,
            device=device,
            weights=model.state_dict(),
            perceptual=random_perceptual(config, device),
            plan=Plan.of(config, images),
        )

    def model(self) -> UNITE:
        model = UNITE(self.config.model, build_domain(self.config.domain), self.config.flow)
        model.load_state_dict(self.weights)
        return model

    def step(self, model: UNITE, perceptual: Any) -> TrainingStep:
        return TrainingStep(model, self.config, perceptual)


class Arm(Protocol):
    """A way to train; `losses` waits for the device, a step need not."""

    def __call__(self, batch: Any) -> None:
        """One optimiser step."""

    def losses(self) -> list[float]:
        """The loss of every step so far."""
        ...


class Recorder(Readout):
    """Keeps the loss of every step. On a GPU a step's numbers come with the next one, or never
    leave `read`, which a log point makes return its own."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.losses: list[float] = []

    def _checked(self, names: list[str], numbers: list[float], images: int) -> dict[str, float]:
        values = super()._checked(names, numbers, images)
        self.losses.append(values["loss/total"])
        return values


class Ours:
    """The platform's step."""

    def __init__(self, setting: Setting) -> None:
        config = setting.config
        model = parallelize(setting.model(), config.training, setting.device)
        world = World(device=setting.device)
        self.objective = JointObjective(
            model, config, setting.perceptual, setting.plan.total_images, world
        )
        unused: Any = None
        self.trainer = Trainer(
            config=config,
            plan=setting.plan,
            world=world,
            model=model,
            ema=Ema(model, config.optim.ema_decay),
            objective=self.objective,
            stream=SimpleNamespace(bad=SimpleNamespace(total=0)),
            eval_batches=unused,
            writer=cast(CheckpointWriter, SimpleNamespace(settle=lambda: None)),
            tracker=unused,
            progress=unused,
            requests=nothing,
            flops_per_image=0.0,
            device_rate=unused,
            manifest_digest="",
        )

        usual = self.trainer.readout
        self.trainer.readout = self.recorder = Recorder(
            usual.writer, usual.batch_size, patience=usual.patience, advice=usual.advice
        )

    def __call__(self, batch: Any) -> None:
        self.trainer.train_step(batch)
        self.trainer.images += self.trainer.plan.batch_size

    def losses(self) -> list[float]:
        self.recorder.settle()
        return self.recorder.losses


class Plain:
    """The reference arm: a straightforward implementation."""

    def __init__(self, setting: Setting) -> None:
        self.setting, self.config = setting, setting.config
        plain = replace(self.config.training, compile=False, kernels="plain")
        self.model = parallelize(setting.model(), plain, setting.device)
        lpips = plain_lpips(setting.perceptual) if setting.perceptual else None
        self.step = setting.step(self.model, lpips)
        self.average = copy.deepcopy(self.model)
        optim = self.config.optim
        groups: dict[str, list[Tensor]] = {"muon": [], "adamw": []}
        for name, parameter in self.model.named_parameters():
            groups[optimizer_group(name, parameter)].append(parameter)
        self.optimizers = [
            torch.optim.Muon(
                groups["muon"],
                momentum=optim.muon_momentum,
                weight_decay=optim.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            ),
            torch.optim.AdamW(
                groups["adamw"],
                betas=optim.betas,
                eps=optim.eps,
                weight_decay=optim.weight_decay,
                foreach=False,
            ),
        ]
        self.images = 0
        self._losses: list[float] = []

    def __call__(self, batch: Any) -> None:
        count, total = self.config.training.accumulation, 0.0
        for part in parts_of(batch, count):
            loss = self.loss(part) / count
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(
            self.model.parameters(), self.config.optim.grad_clip, foreach=False
        )
        lr = learning_rate(
            self.images,
            self.config.optim,
            batch_size=self.setting.plan.batch_size,
            images_per_epoch=self.setting.plan.images_per_epoch,
            total_images=self.setting.plan.total_images,
        )
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
            optimizer.zero_grad()
        self.update_average()
        self.images += self.setting.plan.batch_size
        self._losses.append(total)

    def losses(self) -> list[float]:
        return self._losses

    def loss(self, batch: Any) -> Tensor:
        """The whole loss with its graph: F passes, one after another (METHOD 3)."""
        device, flow, step = self.setting.device, self.config.flow, self.step
        fields = {name: torch.from_numpy(v).to(device) for name, v in batch.fields.items()}
        sample, labels_B = self.model.domain.to_sample(fields)
        address = Address(
            seed=self.config.training.seed,
            epochs_B=torch.from_numpy(batch.epochs_B).to(device),
            rows_B=torch.from_numpy(batch.rows_B).to(device),
        )
        with self.autocast():
            latent_BKD = step.tokenize(sample, address)
            terms = step.reconstruction(sample, latent_BKD, address, None)
        total = self.model.domain.reconstruction_loss(terms, self.config.loss)
        scale = flow.weight / (flow.steps if flow.reduction == "mean" else 1)
        for noising in range(flow.steps):
            one = range(noising, noising + 1)
            total = total + scale * step.flow(latent_BKD.detach(), labels_B, address, None, one)
        return total

    @torch.no_grad()
    def update_average(self) -> None:
        """EMA, tensor by tensor."""
        decay = self.config.optim.ema_decay
        for average, value in zip(self.average.parameters(), self.model.parameters(), strict=True):
            average.mul_(decay).add_(value, alpha=1 - decay)

    def autocast(self) -> Any:
        """bfloat16 autocast where the recipe has it."""
        if self.config.training.precision == "float32":
            return nullcontext()
        return torch.autocast(self.setting.device.type, dtype=torch.bfloat16)


def parts_of(batch: Any, count: int) -> Iterator[Any]:
    """Equal micro-batches, one after another."""
    size = len(batch.rows_B) // count
    for start in range(0, size * count, size):
        rows = slice(start, start + size)
        yield SimpleNamespace(
            fields={name: value[rows] for name, value in batch.fields.items()},
            rows_B=batch.rows_B[rows],
            epochs_B=batch.epochs_B[rows],
        )


def plain_lpips(perceptual: Any) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS' forward pass in the obvious way, on a float32 copy of the same weights."""
    network = copy.deepcopy(perceptual.network).float()
    return lambda a, b: network(a, b, normalize=perceptual.input_range == "-1..1").flatten()
