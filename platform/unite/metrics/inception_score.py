"""Inception Score from streamed sums: exp of the mean KL(p(y|x) || p(y)), over splits (METHOD 5).

For a split S with q = mean of p over S, the mean KL is mean_x sum_c p log p - sum_c q log q, so a
split needs only its count, its sum of p and its sum of p log p. A sample's split follows from its
index, so chunks may be reduced by anybody in any order. Shapes: B samples, C classes, S splits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from unite.lazy import torch
from unite.metrics.accumulator import Arrays
from unite.metrics.errors import MetricError
from unite.metrics.moments import check_features

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class ScoreSums:
    """Running sums per split, float64. `update` and `merge` change them in place."""

    num_S: Tensor
    """Number of samples."""
    negentropy_S: Tensor
    """Sum of sum_c p log p, in nat."""
    p_SC: Tensor
    """Sum of p."""

    @classmethod
    def zeros(
        cls, num_splits: int, num_classes: int, device: torch.device | str = "cpu"
    ) -> ScoreSums:
        """Empty sums."""
        new = {"dtype": torch.float64, "device": device}
        return cls(
            torch.zeros(num_splits, **new),
            torch.zeros(num_splits, **new),
            torch.zeros(num_splits, num_classes, **new),
        )

    def update(self, splits_B: Tensor, logits_BC: Tensor) -> None:
        """Count samples in; `splits_B` are split numbers, `logits_BC` are not normalised."""
        device = self.num_S.device
        logits_BC = check_features(logits_BC, self.p_SC.shape[1]).to(device)
        splits_B = splits_B.to(device)
        log_p_BC = logits_BC.log_softmax(dim=1)
        p_BC = log_p_BC.exp()
        # One product with the membership matrix sums all splits, in an order that does not vary.
        member_SB = splits_B == torch.arange(len(self.num_S), device=device)[:, None]
        member_SB = member_SB.double()
        self.num_S += member_SB.sum(dim=1)
        self.negentropy_S += member_SB @ (p_BC * log_p_BC).sum(dim=1)
        self.p_SC += member_SB @ p_BC

    def merge(self, arrays: Arrays) -> None:
        """Add what `to_arrays` gave of others."""
        for name, total in self._named.items():
            total += torch.from_numpy(arrays[name]).to(total.device)

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation over the splits; MetricError when a split is empty."""
        if bool((self.num_S == 0).any()):
            raise MetricError(
                f"{int(self.num_S.sum())} samples do not fill {len(self.num_S)} splits of the "
                "Inception Score: draw more samples"
            )
        q_SC = self.p_SC / self.num_S[:, None]
        divergence_S = self.negentropy_S / self.num_S - torch.xlogy(q_SC, q_SC).sum(dim=1)
        scores_S = divergence_S.exp().cpu().numpy()
        return float(np.mean(scores_S)), float(np.std(scores_S))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays for an npz file."""
        return {name: total.cpu().numpy() for name, total in self._named.items()}

    @property
    def _named(self) -> dict[str, Tensor]:
        """The sums by their names in a file."""
        return {"num": self.num_S, "negentropy": self.negentropy_S, "p": self.p_SC}
