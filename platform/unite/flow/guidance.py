"""Classifier-free guidance on normalised predictions, computed only where it acts (METHOD 4)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Predict = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""(z, t_B, labels_B, rows_B) -> z_hat; row i of the call belongs to sample rows_B[i]."""


class GuidedPredictor:
    """z_hat = u + w (c - u) for t strictly inside the interval, the conditional c elsewhere.

    An interval from 0 includes t = 0, as in the released code: else the first evaluation would
    stand alone, and the jump after it would mislead dopri5's choice of its first step.
    One forward pass holds every conditional row and the unconditional rows of the guided samples
    alone: outside the interval, at scale 1 and for samples of the null class there are none. The
    host decides which rows those are, so times on the CPU spare a synchronisation per call.
    `network_rows_B` counts the rows of both kinds that the network evaluated for each sample.
    """

    def __init__(
        self,
        predict: Predict,
        labels_B: Tensor,
        null_label: int,
        scale: float,
        interval: tuple[float, float],
    ) -> None:
        low, high = interval
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"cfg_interval must be ordered and within [0, 1], not {interval}")
        self.predict = predict
        self.labels_B = labels_B.cpu().long()
        self.null_label = null_label
        self.scale = scale
        self.interval = interval
        self.network_rows_B = torch.zeros_like(self.labels_B)
        self._guidable_B = (self.labels_B != null_label) & (scale != 1.0)

    def __call__(self, z: Tensor, t_B: Tensor, rows_B: Tensor | None = None) -> Tensor:
        """Guided predictions (B, ...) of the samples rows_B (None: all) at their times t_B."""
        rows_B = torch.arange(len(z)) if rows_B is None else rows_B.cpu()
        t_B = t_B.cpu()
        guided = self._guided(t_B, rows_B)
        source = torch.cat([torch.arange(len(z)), guided])
        rows = rows_B[source]
        labels = self.labels_B[rows]
        labels[len(z) :] = self.null_label
        self.network_rows_B.index_add_(0, rows, torch.ones_like(rows))
        there, t, labels, guided = (
            each.to(z.device, non_blocking=True)  # the host runs ahead of the device
            for each in (source, t_B[source].to(z.dtype), labels, guided)
        )
        z_hat = self.predict(z[there], t, labels, rows).to(z.dtype)
        conditional, unconditional = z_hat.split([len(z), len(guided)])
        difference = conditional[guided] - unconditional
        return conditional.index_copy(0, guided, unconditional + self.scale * difference)

    def _guided(self, t_B: Tensor, rows_B: Tensor) -> Tensor:
        """Positions within the call whose samples are guided at their time."""
        low, high = self.interval
        inside = ((t_B > low) | (low == 0.0)) & (t_B < high)
        return (inside & self._guidable_B[rows_B]).nonzero().flatten()
