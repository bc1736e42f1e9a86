"""A shared encoder with as many trained parameters as two separate ones.

Separate weights hold a second encoder. Whether they win by being separate or by being more is
answered by a shared encoder that is widened until the counts meet.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import replace
from functools import cache

import torch

from unite.config.schema import DomainConfig, EncoderConfig, FlowConfig, ModelConfig
from unite.domains import build_domain
from unite.models import UNITE, parameter_counts

FURTHEST = 2
"""Largest factor on the encoder's own width and MLP that is tried."""
MLP_STEPS = 16
"""Steps per unit of mlp_ratio."""


@cache
def trained_parameters(domain: DomainConfig, model: ModelConfig) -> int:
    """Trained parameters of a model, counted on shapes alone."""
    with torch.device("meta"):
        return parameter_counts(UNITE(model, build_domain(domain), FlowConfig()))["trained"]


def matched_encoder(domain: DomainConfig, model: ModelConfig, target: int) -> dict[str, object]:
    """Overrides that bring `model` to about `target` trained parameters, which must not be fewer.

    The encoder gets the greatest width (head width stays even) that does not exceed the target;
    its MLP then makes up the rest.
    """

    def count(encoder: EncoderConfig) -> int:
        return trained_parameters(domain, replace(model, encoder=encoder))

    own = model.encoder
    widths = range(own.width, FURTHEST * own.width + 1, 2 * own.num_heads)
    wider = [replace(own, width=width) for width in widths]
    base = wider[max(bisect_right(wider, target, key=count) - 1, 0)]
    steps = range(round(own.mlp_ratio * MLP_STEPS * (FURTHEST - 1)) + 1)
    fuller = [replace(base, mlp_ratio=own.mlp_ratio + step / MLP_STEPS) for step in steps]
    place = bisect_left(fuller, target, key=count)
    around = fuller[max(place - 1, 0) : place + 1]
    best = min(around, key=lambda each: abs(count(each) - target))
    return {"model.encoder.width": best.width, "model.encoder.mlp_ratio": best.mlp_ratio}
