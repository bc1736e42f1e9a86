"""The seam between the training loop and a training's purpose: who is trained in a step, by which
loss, with which optimiser.

Joint training has one player (`joint.py`), the decoder's adversarial fine-tuning has two
(`adversarial.py`), which take turns within a step. The loop cuts batches, averages over ranks,
clips, steps, logs and saves for all of them alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from unite.training.muon import Optimizers
from unite.training.step import Address

TensorParts = dict[str, dict[str, Tensor]]
"""Tensors by the name of the checkpoint's part, and by their own."""


class MicroBatch(NamedTuple):
    """Samples that go through the model together, their labels (B,), the address of their draws."""

    sample: Any
    labels_B: Tensor
    address: Address


class Player(Protocol):
    """One of those who are trained in a step."""

    norm: str
    """Logged name of its gradient's norm."""

    @property
    def optimizers(self) -> Sequence[tuple[Optimizers, float]]:
        """Its optimisers, each with the factor of its learning rate."""
        ...

    def zero_grad(self) -> None:
        """Drop all gradients: a step begins."""

    def backward(
        self, part: MicroBatch, images: int, scale: float, *, last: bool = True
    ) -> Mapping[str, Tensor]:
        """Add the gradients of `scale * loss` of a micro-batch, the step's `last` or not, of the
        step after `images` images; returns the detached, unscaled terms by their logged name."""
        ...

    def averaged(self) -> list[Tensor]:
        """Tensors that ranks still have to average in place once all micro-batches are through."""
        ...

    def combine(self) -> tuple[list[Tensor], Mapping[str, Tensor]]:
        """After that: the gradients that are clipped, and further values to log."""
        ...

    def stepped(self, skip: Tensor) -> None:
        """Follow the optimisers' step; where `skip`, bool () on the device, it changed nothing."""


class Objective(Protocol):
    """The purpose of a training run."""

    patience: int
    """Number of steps in a row with a number that is not finite that end the run."""
    advice: str
    """Cure that the error then names."""

    def turns(self, images: int) -> Sequence[Player]:
        """Players of the step after `images` images, in turn."""
        ...

    def state(self) -> TensorParts:
        """Everything that the next step needs beside the model and its average, by part."""
        ...

    def load_state(self, parts: TensorParts) -> None:
        """Take what `state` gave; ValueError or CheckpointError for another model's."""

    def values(self, images: int) -> dict[str, float]:
        """Further values of a log point, after `images` images."""
        ...

    def warning(self, values: Mapping[str, float], images: int, fields: Mapping[str, Any]) -> str:
        """Warning that the values of a log point and the batch's fields give reason to; else ""."""
        ...


class Undo:
    """Takes back the steps of players when a later one's numbers are not finite.

    It keeps copies of their weights and of their optimisers' state, on the device.
    """

    def __init__(self, players: Sequence[Player]) -> None:
        self.players = players
        self.before = {name: tensor.clone() for name, tensor in self._tensors().items()}

    def where(self, bad: Tensor) -> None:
        """Restore everything where `bad`, bool () on the device, is true."""
        if bad.device.type == "cpu" and not bad:
            return  # to look costs a wait on other devices alone
        for name, tensor in self._tensors().items():
            # What a first step has made starts from zero.
            before = self.before.get(name, torch.zeros_like(tensor))
            where = bad.to(tensor.device)
            tensor.copy_(torch.where(where, before, tensor))

    def _tensors(self) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for number, player in enumerate(self.players):
            for place, (optimizers, _) in enumerate(player.optimizers):
                prefix = f"{number}.{place}"
                found |= {f"{prefix}.{k}": v for k, v in optimizers.state_tensors().items()}
                found |= {f"{prefix}.{k}": p.data for k, p in optimizers.parameters().items()}
        return found


def gradients_of(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """The gradients that there are."""
    return [p.grad for p in parameters if p.grad is not None]
