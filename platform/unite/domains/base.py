"""A domain defines its samples, their tokens and the quality of a reconstruction.

The trainer, the flow, the sampler and the metrics know samples only through this class. A sample
is whatever the domain says (a tensor, a dict of padded tensors with masks): the rest of the
platform passes it on untouched.

Shapes: B batch, K registers, N tokens of the sample, H width, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from unite.config.schema import EncoderConfig, LossConfig, ModelConfig
from unite.domains.columns import Columns

BadRows = list[tuple[int, str]]
"""Positions of unreadable rows within a batch of rows, each with the reason."""


class Domain(ABC):
    """Base of all domains: the only place that knows the form of a sample."""

    name: str
    """Name of the domain, as in configs and manifests."""
    config: Any
    """The domain's frozen config."""
    num_classes: int
    """Classes of the condition; labels are 0..num_classes-1 and the model adds the null class."""
    best_metric: str
    """Entry of `reconstruction_metrics` that chooses the best checkpoint: higher is better."""
    columns: Columns
    """Stored columns that `decode_rows` reads; a string is a column of that name and any type."""
    perceptual_side: int = 0
    """Side in pixels of the square pictures that the loss hands to LPIPS; 0 = it hands none."""

    @abstractmethod
    def validate(self, model: ModelConfig) -> None:
        """ValueError naming field, value and fix when `model` does not fit the domain."""

    # Modules -------------------------------------------------------------------------------------

    @abstractmethod
    def build_embedder(self, width: int, config: EncoderConfig) -> nn.Module:
        """Module that maps a sample to tokens (B, N, H)."""

    @abstractmethod
    def build_head(self, width: int) -> nn.Module:
        """Module that maps (tokens (B, K, H), mask (B, K) or None) to a reconstruction."""

    def decoder_positions(self, width: int) -> Tensor | None:
        """Frozen positions (K, H) of the decoder's tokens; None for a domain without."""
        return None

    def num_tokens(self, model: ModelConfig) -> int:
        """N, the tokens that the embedder makes of a sample; for counting FLOPs, so the most."""
        return model.num_registers

    def register_mask(self, sample: Any) -> Tensor | None:
        """True at registers in use, (B, K); None when every sample uses all K."""
        return None

    def token_mask(self, sample: Any) -> Tensor | None:
        """True at tokens in use, (B, N); None when samples have equally many."""
        return None

    # Data ----------------------------------------------------------------------------------------

    @abstractmethod
    def decode_rows(
        self, rows: Mapping[str, Sequence[Any]]
    ) -> tuple[dict[str, np.ndarray], BadRows]:
        """Stored columns to arrays, on the CPU and from any thread.

        Arrays have one entry per row, zeros at bad rows, so that positions stay aligned.
        """

    @abstractmethod
    def to_sample(self, fields: Mapping[str, Tensor]) -> tuple[Any, Tensor]:
        """(sample, labels_B int64) from decoded fields on the training device."""

    def augment(self, sample: Any, keys_B: Tensor) -> Any:
        """Training augmentation; `keys_B` addresses each sample's own random stream."""
        return sample

    # Reconstruction ------------------------------------------------------------------------------

    @abstractmethod
    def reconstruction_terms(
        self,
        reconstruction: Any,
        sample: Any,
        loss: LossConfig,
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
    ) -> dict[str, Tensor]:
        """Unweighted scalar terms by their name in the vocabulary, without `loss/`."""

    @abstractmethod
    def reconstruction_loss(self, terms: Mapping[str, Tensor], loss: LossConfig) -> Tensor:
        """The weighted sum of the terms (a scalar)."""

    @abstractmethod
    def reconstruction_metrics(self, reconstruction: Any, sample: Any) -> dict[str, Tensor]:
        """Per-sample quality (B,) by name, without `eval/`."""

    @abstractmethod
    def render(self, reconstruction: Any) -> Tensor:
        """A picture of each sample, uint8 (B, H, W, C)."""
