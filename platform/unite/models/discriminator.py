"""The discriminator of the decoder's fine-tuning: a Generative Encoder with small heads (METHOD 6).

One deterministic tokenization pass (register noise zero, t = 0, null class) gives features at the
registers, at the sample's own tokens, or at both; a head at each tapped block turns every position
into a verdict, as a PatchGAN does with patches. Nothing here looks at the batch: a verdict depends
on its own sample alone.

Shapes: B batch, K registers, N tokens of the sample, S positions that are judged, H width, P
verdicts of a sample (heads x S).
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from unite.config.finetune import DiscriminatorConfig, trunk_taps
from unite.models.blocks import GenerativeBlock, float32_island
from unite.models.generative_encoder import GenerativeEncoder
from unite.models.unite import UNITE

LEAK = 0.2
"""Slope of the heads' LeakyReLU below zero."""
FIRST_ITERATIONS = 30
"""Power iterations of a fresh layer; `normalise` adds one for every update of the weights."""
NORM_EPS = 1e-12


class SpectralLinear(nn.Linear):
    """Linear layer whose matrix is divided by its largest singular value.

    The singular vectors are held and move by one power iteration per `normalise`, which the
    optimiser's step is followed by; the forward pass changes nothing. So a verdict depends neither
    on how many passes came before nor on how a batch is cut into micro-batches.
    """

    left: Tensor
    right: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)
        self.register_buffer("left", F.normalize(torch.ones(outputs), dim=0))
        self.register_buffer("right", F.normalize(torch.ones(inputs), dim=0))
        self.normalise(FIRST_ITERATIONS)

    @torch.no_grad()
    def normalise(self, iterations: int = 1, *, skip: Tensor | None = None) -> None:
        """Move the singular vectors towards those of the present weights.

        Nothing moves where `skip`, bool () on the device, is true.
        """
        left, right = self.left, self.right
        for _ in range(iterations):
            right = F.normalize(self.weight.mT @ left, dim=0, eps=NORM_EPS)
            left = F.normalize(self.weight @ right, dim=0, eps=NORM_EPS)
        for held, moved in ((self.left, left), (self.right, right)):
            held.copy_(moved if skip is None else torch.where(skip, held, moved))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        largest = torch.dot(self.left, self.weight @ self.right)
        return F.linear(x, self.weight / largest, self.bias)


class Head(nn.Sequential):
    """(B, S, H) -> (B, S, 1): LayerNorm, Linear, LeakyReLU, Linear, spectrally normalised."""

    def __init__(self, width: int) -> None:
        super().__init__(
            nn.LayerNorm(width),
            SpectralLinear(width, width),
            nn.LeakyReLU(LEAK),
            SpectralLinear(width, 1),
        )


class Trunk(nn.Module):
    """Embedder and Generative Encoder as a feature extractor."""

    def __init__(self, embedder: nn.Module, encoder: GenerativeEncoder) -> None:
        super().__init__()
        self.embedder = embedder
        self.encoder = encoder

    def forward(self, sample: Any) -> list[Tensor]:
        """Sequence of every block, registers then tokens: depth x (B, K + N, H)."""
        tokens_BNH = self.embedder(sample)
        batch, device = tokens_BNH.shape[0], tokens_BNH.device
        num_registers, latent_dim = (
            self.encoder.registers.shape[1],
            self.encoder.norm.weight.numel(),
        )
        sequences: list[Tensor] = []
        self.encoder(
            torch.zeros(batch, num_registers, latent_dim, device=device),
            torch.zeros(batch, device=device),
            torch.full((batch,), self.encoder.null_label, device=device),
            tokens_BNH,
            activations=sequences,
        )
        return sequences


class Discriminator(nn.Module):
    """Verdicts on samples: above 0 looks real, below 0 like a reconstruction.

    `model` gives the architecture and, with `init` generative_encoder, the weights. Fresh weights
    come from torch's generator: seed it. A trunk that is frozen at the model's own weights is the
    model's: it is part neither of this module's parameters nor of its state.
    """

    def __init__(self, model: UNITE, config: DiscriminatorConfig) -> None:
        super().__init__()
        encoder = model.config.encoder
        self.config = config
        self.num_registers = model.config.num_registers
        self.taps = trunk_taps(config, encoder.depth)
        borrowed = config.init == "generative_encoder" and config.trunk == "frozen"
        trunk = _trunk(model, config)
        self.own_trunk = None if borrowed else trunk
        self._trunk = (trunk,)  # in a tuple, where torch does not look for parameters
        self.heads = nn.ModuleList(Head(encoder.width) for _ in self.taps)
        trunk.requires_grad_(config.trunk == "trained")
        # Features are read before them: they have no gradient.
        trunk.encoder.final.requires_grad_(False)
        trunk.encoder.norm.requires_grad_(False)

    @property
    def trunk(self) -> Trunk:
        """The trunk, the discriminator's own or the model's."""
        return self.own_trunk if self.own_trunk is not None else self._trunk[0]

    def features(self, sample: Any) -> list[Tensor]:
        """Features of the tapped blocks at the judged positions: taps x (B, S, H)."""
        sequences = self.trunk(sample)
        first = self.num_registers if self.config.features == "tokens" else 0
        last = self.num_registers if self.config.features == "registers" else None
        return [sequences[tap][:, first:last] for tap in self.taps]

    def forward(self, sample: Any) -> Tensor:
        """Verdicts (B, P), float32."""
        features = self.features(sample)
        with float32_island(features[0]):
            verdicts = [
                head(x_BSH.float()).flatten(1)
                for head, x_BSH in zip(self.heads, features, strict=True)
            ]
            return torch.cat(verdicts, dim=1)

    def normalise(self, *, skip: Tensor | None = None) -> None:
        """Follow an update of the weights: one power iteration of every head's layer."""
        for module in self.heads.modules():
            if isinstance(module, SpectralLinear):
                module.normalise(skip=skip)


def _trunk(model: UNITE, config: DiscriminatorConfig) -> Trunk:
    if config.init == "random":
        return _fresh_trunk(model)
    own = Trunk(model.embedder, model.tokenizer)
    return own if config.trunk == "frozen" else copy.deepcopy(own)


def _fresh_trunk(model: UNITE) -> Trunk:
    """A trunk of the model's architecture with fresh weights, modulation layers included.

    A fresh Generative Encoder has zero modulation, so its registers do not depend on the sample.
    """
    config = model.config
    encoder = GenerativeEncoder(
        config.encoder,
        num_registers=config.num_registers,
        latent_dim=config.latent_dim,
        num_classes=model.domain.num_classes,
    )
    for block in encoder.blocks:
        if isinstance(block, GenerativeBlock):
            nn.init.xavier_uniform_(block.modulation.weight)
    return Trunk(model.domain.build_embedder(config.encoder.width, config.encoder), encoder)
