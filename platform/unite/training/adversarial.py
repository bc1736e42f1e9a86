"""Adversarial fine-tuning of the decoder (METHOD 6; Appendix A): an objective with two players.

The Generative Encoder is frozen. In a step the decoder is updated first, then the discriminator, on
a fresh reconstruction by the updated decoder that is clamped and rounded to 8 bits as real images
are; else the adversary would learn rounding. Latents are made on the fly. Noise, flips and
augmentation are addressed by (seed, epoch, row, purpose), and a real image and its reconstruction
are augmented alike.

The adaptive weight is that of the global batch: the gradients of the reconstruction and of the
adversarial term are summed apart, averaged over ranks, and only then combined. So neither the
number of workers nor accumulation changes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unite.config.finetune import FinetuneRunConfig
from unite.flow.random import Purpose
from unite.metrics.image_quality import Perceptual
from unite.models.discriminator import Discriminator
from unite.models.unite import UNITE
from unite.training.adversarial_loss import (
    LECAM_DECAY,
    accuracy,
    adversarial_weight,
    discriminator_loss,
    generator_loss,
    in_8_bits,
    lecam_penalty,
)
from unite.training.augment import augment
from unite.training.monitors import AdversaryWatch
from unite.training.muon import build_optimizers
from unite.training.objective import MicroBatch, Player, TensorParts, gradients_of
from unite.training.parallelize import compile_for_two_gradients
from unite.training.schedule import Plan
from unite.training.step import Address, TrainingStep

ANCHORS = "lecam_anchors"
"""Entry of the discriminator's part with LeCAM's running means."""
PATIENCE = 10
"""Steps in a row with a number that is not finite that end a run."""


class AdversarialObjective:
    """The decoder, and the discriminator from its start on; the control has the decoder alone.

    `config` is as the loop trains by it (`as_trained`); the model's encoder is frozen here. The
    discriminator's fresh weights come from torch's generator: seed it.
    """

    patience = PATIENCE
    advice = (
        "Fine-tune anew with a lower --finetune.lr or --adversarial.weight, or with "
        "--finetune.precision float32; the run is {run}."
    )

    def __init__(
        self, model: UNITE, config: FinetuneRunConfig, perceptual: Perceptual | None, plan: Plan
    ) -> None:
        self.config, self.plan, self.model = config, plan, model
        self.step = TrainingStep(model, config, perceptual)
        if config.training.compile:
            compile_for_two_gradients()  # both terms' are taken through one pass of the decoder
        model.requires_grad_(False)
        judge = self._discriminator() if config.adversarial.weight > 0 else None
        model.decoder.requires_grad_(True)
        self.decoder = DecoderPlayer(self, judge)
        self.adversary = None if judge is None else DiscriminatorPlayer(self, judge)
        self.watch = AdversaryWatch(plan.total_images, config.adversarial)

    def _discriminator(self) -> Discriminator:
        """A discriminator on the model's device; its own trunk recomputes and compiles alike."""
        judge = Discriminator(self.model, self.config.discriminator)
        if judge.own_trunk is not None:
            encoder, training = judge.own_trunk.encoder, self.config.training
            encoder.checkpoint_blocks = training.gradient_checkpointing
            for block in encoder.blocks if training.compile else ():
                block.compile(fullgraph=True)
        return judge.to(next(self.model.parameters()).device)

    def epochs(self, images: int) -> float:
        """Passes over the training set."""
        return images / self.plan.images_per_epoch

    def turns(self, images: int) -> Sequence[Player]:
        """The decoder, and from `discriminator_start` on the discriminator after it."""
        begun = self.epochs(images) >= self.config.adversarial.discriminator_start
        if self.adversary is None or not begun:
            return (self.decoder,)
        return (self.decoder, self.adversary)

    def state(self) -> TensorParts:
        """Parts of a checkpoint: the decoder's moments, and those of the discriminator."""
        state = {"optimizer": self.decoder.members.state_tensors()}
        return state if self.adversary is None else state | self.adversary.state()

    def load_state(self, parts: TensorParts) -> None:
        """Take what `state` gave, of both players."""
        self.decoder.members.load_state_tensors(parts["optimizer"])
        if self.adversary is not None:
            self.adversary.load_state(parts)

    def values(self, images: int) -> dict[str, float]:
        """None: both players' terms say it all."""
        return {}

    def warning(self, values: Mapping[str, float], images: int, fields: Mapping[str, Any]) -> str:
        return self.watch.look(values, images)

    def noised_latent(self, sample: Any, address: Address) -> Tensor:
        """Latent of the augmented sample as the decoder gets it, (B, K, D), without a graph."""
        with torch.no_grad(), self.step.autocast():
            return self.step.decoder_noise(self.step.tokenize(sample, address), address)

    def verdicts(
        self, judge: Discriminator, address: Address, *images: Tensor
    ) -> tuple[Tensor, ...]:
        """Verdicts (B, P) on each of some batches of the same rows, augmented by their addresses.

        They are judged in one pass: a verdict depends on its own sample alone.
        """
        keys_B = address.keys(Purpose.AUGMENT)
        seen = [augment(each.float(), keys_B, self.config.discriminator) for each in images]
        with self.step.autocast():
            return judge(torch.cat(seen)).chunk(len(seen))


class DecoderPlayer:
    """The decoder: reconstruction loss, and the adversarial term from its start on."""

    norm = "grad/norm"

    def __init__(self, stage: AdversarialObjective, judge: Discriminator | None) -> None:
        self.stage = stage
        self.judge = judge
        decoder = stage.model.decoder
        self.parameters = list(decoder.parameters())
        self.last_layer = _last_matrix(decoder.head, self.parameters)
        self.members = build_optimizers(stage.model, stage.config.optim)
        self.optimizers = ((self.members, 1.0),)
        self.latents: list[Tensor] = []
        """Latents of the step's micro-batches, for the discriminator's turn."""
        self._adversarial: list[Tensor] = []

    def zero_grad(self) -> None:
        self.members.zero_grad()
        self.latents, self._adversarial = [], []

    def backward(
        self, part: MicroBatch, images: int, scale: float, *, last: bool = True
    ) -> Mapping[str, Tensor]:
        """Both terms are differentiated against the reconstruction, then taken through the decoder.

        So the graphs of LPIPS and of the discriminator are not alive at the same time.
        """
        stage, domain = self.stage, self.stage.model.domain
        sample = domain.augment(part.sample, part.address.keys(Purpose.FLIP))
        self.latents.append(stage.noised_latent(sample, part.address))
        with stage.step.autocast():
            made = stage.model.decode(self.latents[-1])
        leaf = made.detach().requires_grad_()
        with stage.step.autocast():
            terms = domain.reconstruction_terms(
                leaf, sample, stage.config.loss, stage.step.perceptual
            )
        reconstruction = domain.reconstruction_loss(terms, stage.config.loss)
        (towards_sample,) = torch.autograd.grad(reconstruction, leaf)
        named = {f"loss/{name}": value.detach() for name, value in terms.items()}
        named["loss/reconstruction"] = reconstruction.detach()
        start = stage.config.adversarial.adversarial_start
        if self.judge is not None and stage.epochs(images) >= start:
            named["loss/adversarial"] = self._adversarial_backward(made, leaf, part, scale)
        made.backward(scale * towards_sample)
        return named

    def _adversarial_backward(
        self, made: Tensor, leaf: Tensor, part: MicroBatch, scale: float
    ) -> Tensor:
        assert self.judge is not None
        (verdicts_BP,) = self.stage.verdicts(self.judge, part.address, leaf)
        loss = generator_loss(verdicts_BP, self.stage.config.adversarial.loss)
        (towards_real,) = torch.autograd.grad(loss, leaf)
        found = torch.autograd.grad(made, self.parameters, scale * towards_real, retain_graph=True)
        if self._adversarial:
            torch._foreach_add_(self._adversarial, list(found))
        else:
            self._adversarial = [gradient.clone() for gradient in found]
        return loss.detach()

    def averaged(self) -> list[Tensor]:
        return [*gradients_of(self.parameters), *self._adversarial]

    def combine(self) -> tuple[list[Tensor], Mapping[str, Tensor]]:
        """Gradient of reconstruction + weight x adversarial, of the global batch."""
        gradients = gradients_of(self.parameters)
        if not self._adversarial:
            return gradients, {}
        last = self.last_layer
        weight = adversarial_weight(
            gradients[last], self._adversarial[last], self.stage.config.adversarial
        )
        torch._foreach_mul_(self._adversarial, weight)
        torch._foreach_add_(gradients, self._adversarial)
        return gradients, {"disc/weight": weight}

    def stepped(self, skip: Tensor) -> None:
        self._adversarial = []


class DiscriminatorPlayer:
    """The discriminator: trunk, unless it is frozen, and heads."""

    norm = "grad/disc_norm"

    def __init__(self, stage: AdversarialObjective, judge: Discriminator) -> None:
        config = stage.config
        self.stage = stage
        self.judge = judge
        self.parameters = [p for p in judge.parameters() if p.requires_grad]
        self.members = {"heads": (build_optimizers(judge.heads, config.optim), 1.0)}
        if config.discriminator.trunk == "trained":
            trunk = build_optimizers(judge.trunk, config.optim)
            self.members["trunk"] = (trunk, config.discriminator.trunk_lr_scale)
        self.optimizers = tuple(self.members.values())
        device = self.parameters[0].device
        self.anchors = torch.zeros(2, device=device)
        self._means = torch.zeros(2, device=device)

    def zero_grad(self) -> None:
        for optimizers, _ in self.optimizers:
            optimizers.zero_grad()
        self._means = torch.zeros_like(self.anchors)

    def backward(
        self, part: MicroBatch, images: int, scale: float, *, last: bool = True
    ) -> Mapping[str, Tensor]:
        """Verdicts on real images and on fresh reconstructions in 8 bits, of the latents that the
        decoder's turn left in the order of its micro-batches."""
        stage, given = self.stage, self.stage.config.adversarial
        sample = stage.model.domain.augment(part.sample, part.address.keys(Purpose.FLIP))
        with torch.no_grad(), stage.step.autocast():
            made = in_8_bits(stage.model.decode(stage.decoder.latents.pop(0)))
        real_BP, fake_BP = stage.verdicts(self.judge, part.address, sample, made)
        loss = discriminator_loss(real_BP, fake_BP, given.loss)
        total = loss
        if given.lecam:
            total = loss + given.lecam * lecam_penalty(real_BP, fake_BP, self.anchors)
        (scale * total).backward()
        real, fake = real_BP.detach().mean(), fake_BP.detach().mean()
        self._means += scale * torch.stack([real, fake])
        return {
            "loss/discriminator": loss.detach(),
            "disc/real": real,
            "disc/fake": fake,
            "disc/accuracy": accuracy(real_BP.detach(), fake_BP.detach()),
        }

    def averaged(self) -> list[Tensor]:
        return [*gradients_of(self.parameters), self._means]

    def combine(self) -> tuple[list[Tensor], Mapping[str, Tensor]]:
        return gradients_of(self.parameters), {}

    def stepped(self, skip: Tensor) -> None:
        self.judge.normalise(skip=skip)
        moved = torch.lerp(self.anchors, self._means, 1.0 - LECAM_DECAY)
        self.anchors = torch.where(skip, self.anchors, moved)

    def state(self) -> TensorParts:
        """Parts of a checkpoint: its weights (none of a trunk that is the model's), its moments."""
        moments = {
            f"{member}/{name}": tensor
            for member, (optimizers, _) in self.members.items()
            for name, tensor in optimizers.state_tensors().items()
        }
        weights = {**self.judge.state_dict(), ANCHORS: self.anchors}
        return {"discriminator": weights, "discriminator_optimizer": moments}

    def load_state(self, parts: TensorParts) -> None:
        """Take what `state` gave: weights, running means and moments."""
        weights = dict(parts["discriminator"])
        self.anchors = weights.pop(ANCHORS).to(self.anchors.device)
        self.judge.load_state_dict(weights)
        for member, (optimizers, _) in self.members.items():
            optimizers.load_state_tensors(
                {
                    name.removeprefix(f"{member}/"): tensor
                    for name, tensor in parts["discriminator_optimizer"].items()
                    if name.startswith(f"{member}/")
                }
            )


def _last_matrix(head: nn.Module, parameters: Sequence[nn.Parameter]) -> int:
    """Position of the decoder's last matrix among its parameters."""
    last = [p for p in head.parameters() if p.ndim > 1][-1]
    return next(place for place, parameter in enumerate(parameters) if parameter is last)


def require_adversarial(domain: Any) -> None:
    """ValueError for a domain whose samples no discriminator can judge."""
    if not domain.adversarial:
        raise ValueError(
            f"domain {domain.name} cannot be fine-tuned adversarially: a discriminator needs "
            "differentiable samples; molecules have element types"
        )
