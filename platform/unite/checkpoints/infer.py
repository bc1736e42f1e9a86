"""The architecture of a state dict from nothing but the shapes of its tensors.

What shapes cannot tell is taken from `Hints`: a config beside the file, or the caller.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from unite.checkpoints.authors import block_index
from unite.checkpoints.store import CheckpointError
from unite.config.schema import (
    DecoderConfig,
    EncoderConfig,
    FlowConfig,
    ImagesConfig,
    ModelConfig,
)
from unite.models.generative_encoder import swiglu_hidden

HEAD_WIDTH = 64
"""Width of a decoder head in all of METHOD 2's sizes."""
IN_CONTEXT_START = 4
"""Block from which the in-context class tokens take part in all of METHOD 1's models."""
ROTARY_KEY = "encoder.feat_rope.freqs_cos"
"""An authors' buffer whose width is the encoder's head width."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """What shapes cannot tell. None or the default = as in the paper's models."""

    encoder_heads: int | None = None
    """Heads of the encoder; needed only without qk-norm and without a rotary buffer."""
    decoder_heads: int | None = None
    """Heads of the decoder; width / 64 when not given."""
    in_context_start: int | None = None
    """First block that sees the in-context class tokens; a warning says when 4 is assumed."""
    tokenize_t_max: float = 0.01
    """Largest t of the tokenization pass."""
    shift: float = 0.5
    """alpha of the time shift."""


def hints_from_config(config: Mapping[str, Any]) -> Hints:
    """Hints from a config in the authors' layout (as the JSON beside a state dict)."""
    tokenizer = config.get("gen_tok", {})
    found = {
        # Their code has this default, so a file without a config beside it means it too.
        "in_context_start": tokenizer.get("in_content_start", IN_CONTEXT_START),
        "encoder_heads": config.get("encoder", {}).get("num_heads"),
        "decoder_heads": config.get("decoder", {}).get("num_heads"),
        "tokenize_t_max": tokenizer.get("modulation_recon_timestep_max"),
        "shift": tokenizer.get("timestep_shift_alpha"),
    }
    return Hints(**{name: value for name, value in found.items() if value is not None})


def infer_configs(
    state: Mapping[str, Tensor], hints: Hints, rotary_width: int | None = None
) -> tuple[ImagesConfig, ModelConfig, FlowConfig]:
    """The configs of a state dict under our names (shapes (N, H) for tables).

    `rotary_width` is the width of a rotary buffer, when the file has one. Raises CheckpointError
    naming the tensor that is missing or the argument that has to be given.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    try:
        images = _images(shapes)
        model = ModelConfig(
            num_registers=shapes["tokenizer.registers"][1],
            latent_dim=shapes["tokenizer.input.weight"][1],
            sharing="separate" if "separate_denoiser.registers" in shapes else "shared",
            encoder=_encoder(shapes, hints, rotary_width),
            decoder=_decoder(shapes, hints),
        )
    except KeyError as error:
        raise CheckpointError(f"the state dict lacks {error}: it is not a whole UNITE") from error
    return images, model, FlowConfig(shift=hints.shift)


def _images(shapes: Mapping[str, tuple[int, ...]]) -> ImagesConfig:
    _, channels, patch, _ = shapes["embedder.projection.weight"]
    num_patches = shapes["embedder.positions"][0]
    side = round(num_patches**0.5)
    if side**2 != num_patches:
        raise CheckpointError(f"{num_patches} patches do not form a square image")
    num_classes = shapes["tokenizer.classes.weight"][0] - 2
    return ImagesConfig(size=side * patch, patch=patch, channels=channels, num_classes=num_classes)


def _encoder(
    shapes: Mapping[str, tuple[int, ...]], hints: Hints, rotary_width: int | None
) -> EncoderConfig:
    width = shapes["tokenizer.registers"][2]
    norm = shapes.get("tokenizer.blocks.0.attention.q_norm.weight")
    head_width = norm[0] if norm else rotary_width
    num_heads = width // head_width if head_width else hints.encoder_heads
    if num_heads is None:
        raise CheckpointError(
            "the encoder has neither qk-norm nor a rotary buffer, so its number of heads cannot "
            "be read from shapes: give encoder_heads"
        )
    depth = _depth(shapes, "tokenizer")
    in_context_tokens = shapes.get("tokenizer.in_context", (1, 0))[1]
    return EncoderConfig(
        depth=depth,
        width=width,
        num_heads=num_heads,
        mlp_ratio=_mlp_ratio(width, shapes["tokenizer.blocks.0.mlp.out.weight"][1]),
        qk_norm=norm is not None,
        in_context_tokens=in_context_tokens,
        in_context_start=_in_context_start(hints, in_context_tokens, depth),
        tokenize_t_max=hints.tokenize_t_max,
    )


def _in_context_start(hints: Hints, tokens: int, depth: int) -> int:
    if hints.in_context_start is not None:
        return hints.in_context_start
    cure = "give in_context_start, or put the run's config.json beside the file"
    if tokens and depth <= IN_CONTEXT_START:
        raise CheckpointError(
            f"shapes do not tell which of the {depth} blocks is the first to see the {tokens} "
            f"in-context tokens: {cure}"
        )
    if tokens:
        warnings.warn(
            f"shapes do not tell from which block on the {tokens} in-context tokens take part; "
            f"{IN_CONTEXT_START} is assumed, as in the paper's models. If that is wrong the model "
            f"computes something else: {cure}",
            stacklevel=2,
        )
    return IN_CONTEXT_START


def _decoder(shapes: Mapping[str, tuple[int, ...]], hints: Hints) -> DecoderConfig:
    width, stem_width = shapes["decoder.input.weight"]
    num_heads = hints.decoder_heads
    if num_heads is None and width % HEAD_WIDTH:
        raise CheckpointError(
            f"a decoder of width {width} does not have heads of {HEAD_WIDTH}, and their number "
            "cannot be read from shapes: give decoder_heads, or put the config beside the file"
        )
    return DecoderConfig(
        depth=_depth(shapes, "decoder"),
        width=width,
        num_heads=num_heads or width // HEAD_WIDTH,
        mlp_width=shapes["decoder.blocks.0.up.weight"][0],
        stem_width=stem_width,
    )


def _depth(shapes: Mapping[str, tuple[int, ...]], part: str) -> int:
    return 1 + max(block_index(name, part) for name in shapes)


def _mlp_ratio(width: int, hidden: int) -> float:
    """The roundest ratio whose SwiGLU has this hidden width."""
    exact = 1.5 * hidden / width
    candidates = [round(exact, digits) for digits in range(8)] + [(1.5 * hidden + 0.75) / width]
    return next(ratio for ratio in candidates if swiglu_hidden(width, ratio) == hidden)
