"""Assignment of parameters to optimisers (METHOD 3), and parameter counts."""

from __future__ import annotations

from typing import Literal

from torch import nn

from unite.models.generative_encoder import GenerativeEncoder
from unite.models.unite import UNITE

OptimizerGroup = Literal["muon", "adamw"]

ADAMW_MODULES = frozenset({"embedder", "final", "pair_bias"})
"""Parts that AdamW trains whatever their shape: the sample's embedding, the final layer, and the
table of pair biases, which is no matrix."""


def optimizer_group(name: str, parameter: nn.Parameter) -> OptimizerGroup:
    """`muon` for hidden matrices, `adamw` for everything else.

    `name` is the parameter's name in UNITE; wrappers' prefixes do not matter.
    """
    hidden_matrix = parameter.ndim == 2 and ADAMW_MODULES.isdisjoint(name.split("."))
    return "muon" if hidden_matrix else "adamw"


def parameter_counts(model: UNITE) -> dict[str, int]:
    """Trained parameters by part; `trained` is their sum.

    `unused_in_release` counts what the released checkpoints hold on top and no forward pass uses
    (the time embedder's special vector): `trained` plus it is METHOD 2's figure, and
    `generative_encoder` plus it is METHOD's figure of the encoder.
    """
    parts = {
        "generative_encoder": _count(model.tokenizer) - _outside_encoder(model.tokenizer),
        "registers": model.tokenizer.registers.numel(),
        "latent_norm": _count(model.tokenizer.norm),
        "embedder": _count(model.embedder),
        "decoder_stem": _count(model.decoder.stem),
        "decoder": _count(model.decoder) - _count(model.decoder.stem),
    }
    if model.separate_denoiser is not None:
        parts["separate_denoiser"] = _count(model.separate_denoiser)
    num_encoders = 1 if model.separate_denoiser is None else 2
    unused = num_encoders * model.config.encoder.width
    return {**parts, "trained": sum(parts.values()), "unused_in_release": unused}


def _outside_encoder(encoder: GenerativeEncoder) -> int:
    return encoder.registers.numel() + _count(encoder.norm)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)
