"""Joint training of tokenizer, flow and decoder (METHOD 3): an objective with one player."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from unite.config.schema import RunConfig
from unite.metrics.image_quality import Perceptual
from unite.models.unite import UNITE
from unite.training.exchange import GradientExchange
from unite.training.graphs import CudaRecorder, GraphedStep, suits
from unite.training.monitors import CollapseWatch, effective_rank, latent_std, samples_differ
from unite.training.muon import build_optimizers
from unite.training.objective import MicroBatch, Player, TensorParts, gradients_of
from unite.training.parallelize import World
from unite.training.schedule import flow_weight
from unite.training.step import StepLosses, TrainingStep


class JointObjective:
    """The whole model, one loss, Muon and AdamW. Its one player is the objective itself."""

    norm = "grad/norm"
    patience = 1
    advice = (
        "Continue from it with a lower --optim.lr or --optim.grad-clip, or --training.precision "
        "float32, and --resume {run} --allow-changes."
    )
    last: StepLosses

    def __init__(
        self,
        model: UNITE,
        config: RunConfig,
        perceptual: Perceptual | None,
        total_images: int,
        world: World | None = None,
    ) -> None:
        world = world or World()
        self.config = config
        self.total_images = total_images
        self.parameters = list(model.parameters())
        self.members = build_optimizers(model, config.optim, rank=world.rank, world=world.size)
        precision = config.training.exchange
        self.exchange = (
            GradientExchange(self.parameters, world, precision) if world.size > 1 else None
        )
        self.optimizers = ((self.members, 1.0),)
        self.step = TrainingStep(model, config, perceptual)
        self.graphs = (
            GraphedStep(self.step, self.parameters, CudaRecorder())
            if suits(config, world.device)
            else None
        )
        training = config.training
        self.collapse = CollapseWatch(training.collapse_std, total_images, training.batch_size)

    def turns(self, images: int) -> Sequence[Player]:
        return (self,)

    def zero_grad(self) -> None:
        (self.graphs or self.members).zero_grad()

    def backward(
        self, part: MicroBatch, images: int, scale: float, *, last: bool = True
    ) -> Mapping[str, Tensor]:
        """Gradients of a micro-batch; with its `last` pass they leave for the other ranks."""
        weight = self._flow_weight(images)
        begin = self.exchange.expect if self.exchange and last else None
        self.last = (self.graphs or self.step).backward(
            *part, flow_weight=weight, scale=scale, before_last_pass=begin
        )
        return self.last.terms

    def averaged(self) -> list[Tensor]:
        """None: they were sent with the last pass, and are waited for here."""
        if self.exchange:
            self.exchange.finish()
        return []

    def combine(self) -> tuple[list[Tensor], Mapping[str, Tensor]]:
        return gradients_of(self.parameters), {}

    def stepped(self, skip: Tensor) -> None:
        """Nothing follows."""

    def state(self) -> TensorParts:
        return {"optimizer": self.members.state_tensors()}

    def load_state(self, parts: TensorParts) -> None:
        self.members.load_state_tensors(parts["optimizer"])

    def values(self, images: int) -> dict[str, float]:
        """Weight of the flow loss, and the health of the last micro-batch's latent."""
        last = self.last
        return {
            "loss/flow_weight": self._flow_weight(images),
            "latent/std": float(latent_std(last.latent_BKD, last.mask_BK)),
            "latent/effective_rank": float(effective_rank(last.latent_BKD, last.mask_BK)),
        }

    def warning(self, values: Mapping[str, float], images: int, fields: Mapping[str, Any]) -> str:
        pressed = self._flow_weight(images) > 0 and samples_differ(fields)
        return self.collapse.look(values["latent/std"], images, pressed=pressed)

    def _flow_weight(self, images: int) -> float:
        return flow_weight(images, self.config.flow, total_images=self.total_images)
