"""Initial weights by kind of layer, at the widths of UNITE-B: the kind of draw, its range, its std.

A std estimated from n values of a uniform distribution scatters by sqrt(0.2 / n) of itself, and the
largest of n values falls short of the bound by k / n of it with probability exp(-k).
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from unite.config.schema import (
    DecoderConfig,
    EncoderConfig,
    FlowConfig,
    ImagesConfig,
    ModelConfig,
)
from unite.domains import build_domain
from unite.models.unite import UNITE

SIGMAS = 5.0
# Layer -> (fan in, fan out, std with Xavier, std as released: both as measured).
LAYERS = {
    "embedder.projection": (768, 768, 0.036, 0.021),
    "decoder.stem": (32, 768, 0.050, 0.102),
    "decoder.input": (768, 768, 0.036, 0.021),
    "decoder.blocks.0.attention.qkv": (768, 2304, 0.0255, 0.021),
    "decoder.blocks.0.attention.proj": (768, 768, 0.036, 0.021),
    "decoder.blocks.0.up": (768, 3072, 0.023, 0.021),
    "decoder.blocks.0.down": (3072, 768, 0.023, 0.010),
    "decoder.head.out": (768, 768, 0.036, 0.021),
}


def build(init: str) -> dict[str, Tensor]:
    torch.manual_seed(0)
    config = ModelConfig(
        init=init,  # type: ignore[arg-type]
        encoder=EncoderConfig(depth=1, in_context_start=0),
        decoder=DecoderConfig(depth=1),
    )
    return UNITE(config, build_domain(ImagesConfig()), FlowConfig()).state_dict()


@pytest.fixture(scope="module")
def xavier() -> dict[str, Tensor]:
    return build("xavier")


@pytest.fixture(scope="module")
def released() -> dict[str, Tensor]:
    return build("released")


def assert_uniform(values: Tensor, bound: float) -> None:
    num = values.numel()
    spread = math.sqrt(0.2 / num)
    assert values.std().item() == pytest.approx(bound / math.sqrt(3), rel=SIGMAS * spread)
    assert values.mean().item() == pytest.approx(0, abs=SIGMAS * bound / math.sqrt(3 * num))
    assert bound * (1 - 20 / num) < values.abs().max().item() <= bound


@pytest.mark.parametrize("layer", LAYERS)
def test_as_released_decoder_and_patches_keep_torchs_defaults(layer: str, released) -> None:
    fan_in, _, _, std = LAYERS[layer]
    bound = 1 / math.sqrt(fan_in)
    assert_uniform(released[f"{layer}.weight"], bound)
    assert_uniform(released[f"{layer}.bias"], bound)
    assert released[f"{layer}.weight"].std().item() == pytest.approx(std, abs=5e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_by_default_they_are_xavier_uniform_without_bias(layer: str, xavier) -> None:
    fan_in, fan_out, std, _ = LAYERS[layer]
    assert xavier[f"{layer}.weight"].std().item() == pytest.approx(std, abs=5e-4)
    assert_uniform(xavier[f"{layer}.weight"], math.sqrt(6 / (fan_in + fan_out)))
    assert not xavier[f"{layer}.bias"].any()


def test_the_decoders_class_token(xavier, released) -> None:
    token = xavier["decoder.class_token"]
    # A normal's std scatters by sqrt(1 / 2n) of itself.
    assert token.std().item() == pytest.approx(0.02, rel=SIGMAS / math.sqrt(2 * token.numel()))
    assert not released["decoder.class_token"].any()


def test_encoder_norms_and_tables_are_the_same_either_way(xavier, released) -> None:
    redrawn = {f"{layer}.{part}" for layer in LAYERS for part in ("weight", "bias")}
    others = set(xavier) - redrawn - {"decoder.class_token"}
    assert any(name.startswith("tokenizer.blocks") for name in others)
    for name in others:
        assert torch.equal(xavier[name], released[name]), name
