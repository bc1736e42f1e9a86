"""The architecture of a state dict, inferred from the shapes of its tensors alone.

What shapes cannot tell is taken from `Hints`: a config beside the file, or the caller.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

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
TOKENIZE_T_MAX = 0.01
SHIFT = 0.5
CURE = "give in_context_start or decoder_heads, or put the run's config.json beside the file"

T = TypeVar("T")
ROTARY_KEY = "encoder.feat_rope.freqs_cos"
"""An authors' buffer whose width is the encoder's head width."""


@dataclass(frozen=True, kw_only=True)
class Hints:
    """Facts that shapes cannot tell. None = as in the paper's models, and a warning says so."""

    encoder_heads: int | None = None
    """Heads of the encoder; needed only without qk-norm and without a rotary buffer."""
    decoder_heads: int | None = None
    """Heads of the decoder; width / 64 when not given."""
    in_context_start: int | None = None
    """First block that sees the in-context class tokens; 4 when not given."""
    tokenize_t_max: float | None = None
    """Largest t of the tokenization pass; 0.01 when not given."""
    shift: float | None = None
    """alpha of the time shift; 0.5 when not given."""


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

    `rotary_width` is the width of a rotary buffer, when the file has one. One warning names all
    that neither shapes nor hints tell and that is assumed. Raises CheckpointError naming the tensor
    that is missing or the argument that has to be given.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    try:
        hints = _completed(hints, shapes)
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
    return images, model, FlowConfig(shift=_known(hints.shift))


def _completed(hints: Hints, shapes: Mapping[str, tuple[int, ...]]) -> Hints:
    """The hints with assumed values in the place of None; a warning names them."""
    likely = {
        "decoder_heads": lambda: _decoder_heads(shapes["decoder.input.weight"][0]),
        "in_context_start": lambda: _in_context_start(shapes),
        "tokenize_t_max": lambda: TOKENIZE_T_MAX,
        "shift": lambda: SHIFT,
    }
    assumed = {name: value() for name, value in likely.items() if getattr(hints, name) is None}
    told = [name for name in assumed if name != "in_context_start" or _in_context_tokens(shapes)]
    if told:
        warnings.warn(
            "the weights come without a config. Sizes are read from shapes; assumed, as in the "
            f"paper's models: {', '.join(f'{name} {assumed[name]:g}' for name in told)}. If that "
            f"is wrong the model computes something else: {CURE}",
            stacklevel=1,
        )
    return replace(hints, **assumed)


def _known(value: T | None) -> T:
    assert value is not None, "hints are completed first"
    return value


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
    return EncoderConfig(
        depth=_depth(shapes, "tokenizer"),
        width=width,
        num_heads=num_heads,
        mlp_ratio=_mlp_ratio(width, shapes["tokenizer.blocks.0.mlp.out.weight"][1]),
        qk_norm=norm is not None,
        in_context_tokens=_in_context_tokens(shapes),
        in_context_start=_known(hints.in_context_start),
        tokenize_t_max=_known(hints.tokenize_t_max),
    )


def _in_context_tokens(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return shapes.get("tokenizer.in_context", (1, 0))[1]


def _in_context_start(shapes: Mapping[str, tuple[int, ...]]) -> int:
    tokens, depth = _in_context_tokens(shapes), _depth(shapes, "tokenizer")
    if tokens and depth <= IN_CONTEXT_START:
        raise CheckpointError(
            f"shapes do not tell which of the {depth} blocks is the first to see the {tokens} "
            f"in-context tokens: {CURE}"
        )
    return IN_CONTEXT_START


def _decoder(shapes: Mapping[str, tuple[int, ...]], hints: Hints) -> DecoderConfig:
    width, stem_width = shapes["decoder.input.weight"]
    return DecoderConfig(
        depth=_depth(shapes, "decoder"),
        width=width,
        num_heads=_known(hints.decoder_heads),
        mlp_width=shapes["decoder.blocks.0.up.weight"][0],
        stem_width=stem_width,
    )


def _decoder_heads(width: int) -> int:
    if width % HEAD_WIDTH:
        raise CheckpointError(
            f"a decoder of width {width} does not have heads of {HEAD_WIDTH}, and their number "
            "cannot be read from shapes: give decoder_heads, or put the config beside the file"
        )
    return width // HEAD_WIDTH


def _depth(shapes: Mapping[str, tuple[int, ...]], part: str) -> int:
    return 1 + max(block_index(name, part) for name in shapes)


def _mlp_ratio(width: int, hidden: int) -> float:
    """The roundest ratio whose SwiGLU has this hidden width."""
    exact = 1.5 * hidden / width
    candidates = [round(exact, digits) for digits in range(8)] + [(1.5 * hidden + 0.75) / width]
    return next(ratio for ratio in candidates if swiglu_hidden(width, ratio) == hidden)
