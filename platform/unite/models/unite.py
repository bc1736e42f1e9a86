"""UNITE: one Generative Encoder as tokenizer and denoiser, a decoder, and the domain between
samples and tokens. With `sharing = "separate"` the denoiser is a second encoder (ablation).

Shapes: B batch, K registers, D latent channels, N tokens, H width. t = 1 is clean, t = 0 is noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from unite.config.schema import EncoderConfig, FlowConfig, ModelConfig
from unite.models.decoder import Decoder
from unite.models.generative_encoder import GenerativeEncoder
from unite.models.initialise import initialise_as_released


class SampleDomain(Protocol):
    """Part of a domain that the model uses (unite.domains.base.Domain implements it)."""

    num_classes: int

    def validate(self, model: ModelConfig) -> None:
        """ValueError when the model does not fit the domain."""

    def build_embedder(self, width: int, config: EncoderConfig) -> nn.Module:
        """Module: sample -> tokens (B, N, H)."""
        ...

    def build_head(self, width: int) -> nn.Module:
        """Module: (tokens (B, K, H), mask (B, K) or None) -> reconstruction."""
        ...

    def decoder_positions(self, width: int) -> Tensor | None:
        """Frozen position table (K, H) of the decoder."""

    def register_mask(self, sample: Any) -> Tensor | None:
        """True at real registers, (B, K)."""

    def token_mask(self, sample: Any) -> Tensor | None:
        """True at real tokens, (B, N)."""


class Statistics(nn.Module):
    """Knowledge of its training set that a model keeps, as buffers by name; images need none."""

    def take(self, tensors: Mapping[str, Tensor]) -> None:
        """Hold copies of the tensors. RuntimeError for a second time."""
        if self._buffers:
            raise RuntimeError("the model holds the statistics of its training set already")
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor.detach().clone())

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The tensors by name."""
        return dict(self.named_buffers())


class UNITE(nn.Module):
    """The whole model. `flow` is kept because sampling needs its shift and clamp, `statistics` hold
    what the domain must know of the training set (`Domain.statistics`), once training has begun.

    Raises ValueError when `config` does not fit `domain`.
    """

    def __init__(self, config: ModelConfig, domain: SampleDomain, flow: FlowConfig) -> None:
        super().__init__()
        domain.validate(config)
        self.config, self.flow = config, flow
        self.domain: Any = domain  # the rooms above ask more of it than the model does
        self.statistics = Statistics()
        self.embedder = domain.build_embedder(config.encoder.width, config.encoder)
        self.tokenizer = self._build_encoder(config.encoder)
        separate = config.sharing == "separate"
        # It sees no tokens: pair biases would be parameters without a use.
        alone = replace(config.encoder, pair_bias=0.0)
        self.separate_denoiser = self._build_encoder(alone) if separate else None
        self.decoder = Decoder(
            config.decoder,
            latent_dim=config.latent_dim,
            positions_KH=domain.decoder_positions(config.decoder.width),
            head=domain.build_head(config.decoder.width),
        )
        if config.init == "released":
            initialise_as_released(self.embedder, self.decoder)

    def _build_encoder(self, config: EncoderConfig) -> GenerativeEncoder:
        return GenerativeEncoder(
            config,
            num_registers=self.config.num_registers,
            latent_dim=self.config.latent_dim,
            num_classes=self.domain.num_classes,
        )

    @property
    def denoiser(self) -> GenerativeEncoder:
        """The encoder of the generation pass: the tokenizer itself when weights are shared."""
        return self.tokenizer if self.separate_denoiser is None else self.separate_denoiser

    @property
    def null_label(self) -> int:
        """The class index that means no class."""
        return self.tokenizer.null_label

    @property
    def noise_shape(self) -> tuple[int, int]:
        """(K, D) of one latent."""
        return self.config.num_registers, self.config.latent_dim

    def tokenize(
        self,
        sample: Any,
        noise_BKD: Tensor | None = None,
        t_B: Tensor | None = None,
        *,
        activations: list[Tensor] | None = None,
    ) -> Tensor:
        """The clean latent z0 (B, K, D) of a batch of samples (METHOD 1, tokenization mode).

        `noise_BKD` is N(0, I) and `t_B` is U[0, tokenize_t_max] unless given. A list given as
        `activations` receives each block's registers (B, K, H).
        """
        tokens_BNH = self.embedder(sample)
        mask_BK = self.domain.register_mask(sample)
        batch, device = tokens_BNH.shape[0], tokens_BNH.device
        num_registers, latent_dim = self.noise_shape
        if mask_BK is not None:
            num_registers = mask_BK.shape[1]
        if noise_BKD is None:
            noise_BKD = torch.randn(batch, num_registers, latent_dim, device=device)
        if t_B is None:
            t_B = torch.rand(batch, device=device) * self.config.encoder.tokenize_t_max
        sequences: list[Tensor] = []
        latent_BKD = self.tokenizer(
            noise_BKD,
            t_B,
            self._null_labels(noise_BKD),
            tokens_BNH,
            mask_BK=mask_BK,
            token_mask_BN=self.domain.token_mask(sample),
            activations=None if activations is None else sequences,
        )
        if activations is not None:
            activations.extend(x_BSH[:, : noise_BKD.shape[1]] for x_BSH in sequences)
        return latent_BKD

    def denoise(
        self,
        z_BKD: Tensor,
        t_B: Tensor,
        labels_B: Tensor | None = None,
        *,
        mask_BK: Tensor | None = None,
        activations: list[Tensor] | None = None,
    ) -> Tensor:
        """The prediction of the clean latent (B, K, D) from z_t (METHOD 1, generation mode)."""
        if labels_B is None:
            labels_B = self._null_labels(z_BKD)
        return self.denoiser(z_BKD, t_B, labels_B, mask_BK=mask_BK, activations=activations)

    def decode(self, z_BKD: Tensor, mask_BK: Tensor | None = None) -> Any:
        """The domain's reconstruction of a latent (B, K, D); images: (B, C, H, W), not clamped."""
        return self.decoder(z_BKD, mask_BK)

    def _null_labels(self, z_BKD: Tensor) -> Tensor:
        return torch.full(z_BKD.shape[:1], self.null_label, device=z_BKD.device)
