"""A domain defines its samples, their tokens and the quality of a reconstruction.

The trainer, the flow, the sampler and the metrics know samples only through this class. A sample
is whatever the domain says (a tensor, a dict of padded tensors with masks): the rest of the
platform passes it on untouched.

Shapes: B batch, K registers, N tokens of the sample, H width, C channels.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from unite.config.schema import EncoderConfig, LossConfig, ModelConfig
from unite.domains.columns import Columns

BadRows = list[tuple[int, str]]
"""Positions of unreadable rows within a batch of rows, each with the reason."""


class Domain(ABC):
    """Base of all domains: the only place that knows the form of a sample.

    What has a body here is optional: its default is that of samples which all have one size, use
    every register and need nothing of the training set.
    """

    name: str
    """Name of the domain, as in manifests and in the `kind` of its config."""
    noun: str = "sample"
    """One sample in words, such as "image"; `words.count` makes the plural."""
    config: Any
    """The domain's frozen config."""
    num_classes: int
    """Classes of the condition; labels are 0..num_classes-1 and the model adds the null class.
    0 = unconditional: the null class is the only label."""
    best_metric: str
    """Entry of `reconstruction_metrics` that chooses the best checkpoint; its row in metrics/specs
    says which direction is better."""
    columns: Columns
    """Stored columns that `decode_rows` reads; a string is a column of that name and any type."""
    rows_per_task: int = 32
    """Rows that one thread of the loader decodes at once, at most: so many that the work beside
    the rows' own is small."""
    adversarial: bool = False
    """True if a discriminator can judge its reconstructions: images that it can pass gradients
    through to the decoder."""
    perceptual_side: int = 0
    """Side in pixels of the square pictures that the loss hands to LPIPS; 0 = it hands none."""

    @property
    def folders(self) -> tuple[str, ...]:
        """Domains of the prepared folders that its data are in, in order: its own alone."""
        return (self.name,)

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

    def embedder_macs(self, model: ModelConfig) -> float:
        """Multiply-adds of embedding one sample of the most tokens.

        Default: every weight of the embedder works once on every token. A lookup table or a layer
        that sees a sample once needs a count of its own.
        """
        with torch.device("meta"):
            embedder = self.build_embedder(model.encoder.width, model.encoder)
        return self.num_tokens(model) * matrix_weights(embedder)

    def head_macs(self, model: ModelConfig) -> float:
        """Multiply-adds of the head on one sample; default: every weight on each of K tokens."""
        with torch.device("meta"):
            head = self.build_head(model.decoder.width)
        return model.num_registers * matrix_weights(head)

    def register_mask(self, sample: Any) -> Tensor | None:
        """True at registers in use, (B, K); None when every sample uses all K."""
        return None

    def token_mask(self, sample: Any) -> Tensor | None:
        """True at tokens in use, (B, N); None when samples have equally many."""
        return None

    def take(self, sample: Any, rows: slice | Tensor) -> Any:
        """The samples at `rows` of a batch or a reconstruction: of a tensor, or of each in a dict.

        None stays None. TypeError for a form that the domain has to slice itself.
        """
        if sample is None:
            return None
        if isinstance(sample, Tensor):
            return sample[rows]
        if isinstance(sample, Mapping):
            return {name: self.take(part, rows) for name, part in sample.items()}
        raise TypeError(f"{type(self).__name__}.take does not know a {type(sample).__name__}")

    # Sizes and statistics ------------------------------------------------------------------------

    def sizes(self, fields: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """Registers that each decoded row needs, int (B,); None when all need K."""
        return None

    def trim(self, fields: Mapping[str, np.ndarray], length: int) -> Mapping[str, np.ndarray]:
        """Decoded arrays cut to `length` registers a row; no row needs more. Default: as they are.

        A reconstruction loss must not depend on the cut: its sums are divided by constants.
        """
        return fields

    def statistics(self, train: Iterable[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        """Knowledge of the training set that a model keeps: CPU tensors by name.

        `train` gives the decoded fields of every readable row once, in batches; it is read only
        when it is iterated over. The model holds the tensors as buffers, so that they are in every
        checkpoint and export.
        """
        return {}

    def draw_mask(
        self, keys_B: Tensor, statistics: Mapping[str, Tensor], labels_B: Tensor
    ) -> Tensor | None:
        """Registers in use of samples to be drawn, bool (B, K); None = all.

        `keys_B` addresses each sample's size; `statistics` are those of the model, `labels_B` the
        classes, on the keys' device.
        """
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

    @abstractmethod
    def example_fields(self, num: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
        """Decoded arrays of `num` valid samples of the most registers, as `decode_rows` gives;
        for what measures time or memory without data."""

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

    def as_reconstruction(self, sample: Any) -> Any:
        """A sample in the form that `render` takes; default: it has that form."""
        return sample

    @abstractmethod
    def render(self, reconstruction: Any, mask_BK: Tensor | None = None) -> Tensor:
        """A picture of each sample, uint8 (B, H, W, C); `mask_BK` is True at registers in use."""

    def facts(self) -> dict[str, str]:
        """Facts of the samples in words, by name, for model cards and `unite inspect`."""
        return {}


def matrix_weights(module: nn.Module) -> int:
    """Number of weights in a module's matrices and convolutions: its multiply-adds per token."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)
