"""`unite recipes` and `unite diff`: what the named runs are and where two of them differ."""

from __future__ import annotations

from functools import cache

import torch

from unite.commands.render import print_table
from unite.config.recipes import DECISIONS, VARIANTS, describe, names, recipe
from unite.config.schema import FlowConfig, ImagesConfig, ModelConfig
from unite.config.serialise import diff
from unite.domains import build_domain
from unite.models import UNITE, parameter_counts


def list_recipes() -> None:
    """Print every recipe, what it reproduces and the true size of its model."""
    print_table(
        ("recipe", "reproduces", "encoder M", "decoder M", "total M"),
        ((name, describe(name), *_millions(name)) for name in names()),
    )
    print("\nStart one: python jobs/train.py RECIPE. Differences: unite diff paper released")


def _millions(name: str) -> tuple[str, ...]:
    config = recipe(name)
    counts = _counts(config.domain, config.model)
    encoder = counts["generative_encoder"] + counts.get("separate_denoiser", 0)
    return tuple(f"{count / 1e6:.1f}" for count in (encoder, counts["decoder"], counts["trained"]))


@cache
def _counts(domain: ImagesConfig, model: ModelConfig) -> dict[str, int]:
    with torch.device("meta"):  # shapes without memory
        return parameter_counts(UNITE(model, build_domain(domain), FlowConfig()))


def diff_recipes(first: str, second: str, base: str) -> None:
    """Print the fields in which two recipes, or two variants of `base`, differ.

    ValueError when a name is neither a variant nor a recipe.
    """
    left, right = _resolve(first, base), _resolve(second, base)
    rows = [row for row in diff(recipe(left), recipe(right)) if row[0] != "recipe"]
    if not rows:
        print(f"{left} and {right} are the same")
        return
    print_table(("field", left, right), rows)
    if first in VARIANTS and second in VARIANTS:
        print()
        for field, why in DECISIONS.items():
            print(f"{field}: {why}")


def _resolve(name: str, base: str) -> str:
    return f"{base}-{name}" if name in VARIANTS else name
