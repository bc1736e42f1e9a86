"""Exponential moving average of the weights, updated after every optimiser step (METHOD 3).

The average lives in a module of its own, a copy of the model in evaluation mode. Evaluation and
sampling call that module, so nothing is ever swapped into the training model, and a compiled
training forward cannot be evaluated with stale weights.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """average <- decay * average + (1 - decay) * weights, buffers are copied.

    Build it from the bare model on its device. The average shares no tensor with it. ValueError
    for weights that are not float32.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0.0 <= decay <= 1.0:
            raise ValueError(f"optim.ema_decay = {decay} must lie in 0..1")
        self.decay = decay
        if any(parameter.dtype != torch.float32 for parameter in model.parameters()):
            raise ValueError(
                "the weight average needs float32 weights, in which small steps do not round away; "
                "training.precision bfloat16 is autocast and leaves the weights as they are"
            )
        self._module = copy.deepcopy(model).requires_grad_(False).eval()
        self._averages: list[Tensor] = list(self._module.parameters())
        self._weights: list[Tensor] = list(model.parameters())
        self._buffer_copies = list(self._module.buffers())
        self._buffers = list(model.buffers())

    def module(self) -> nn.Module:
        """The averaged model for evaluation: in evaluation mode, without gradients."""
        return self._module

    @torch.no_grad()
    def update(self, skip: Tensor | None = None) -> None:
        """Take one step towards the present weights; none where `skip`, bool (), is true."""
        weights = self._weights
        if skip is not None:
            pairs = zip(self._averages, weights, strict=True)
            weights = [torch.where(skip, average, weight) for average, weight in pairs]
        torch._foreach_lerp_(self._averages, weights, 1.0 - self.decay)
        if self._buffers:
            torch._foreach_copy_(self._buffer_copies, self._buffers)

    def state_tensors(self) -> dict[str, Tensor]:
        """The averages under the model's own state_dict keys (live tensors, not copies)."""
        return dict(self._module.state_dict())

    def load_state_tensors(self, tensors: dict[str, Tensor]) -> None:
        """Take averages saved by `state_tensors`; ValueError names missing and unknown keys."""
        try:
            self._module.load_state_dict(tensors, strict=True)
        except RuntimeError as error:
            raise ValueError(f"the saved weight average is of another model: {error}") from error
