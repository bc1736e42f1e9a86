"""`unite recipes` and `unite diff`: list of the named runs, and differences of two."""

from __future__ import annotations

from functools import cache

import torch

from unite.config.decisions import decisions
from unite.config.files import write_yaml
from unite.config.recipes import describe, names, recipe
from unite.config.schema import DomainConfig, FlowConfig, ModelConfig
from unite.config.serialise import diff
from unite.config.variants import VARIANTS
from unite.domains import build_domain
from unite.models import UNITE, parameter_counts
from unite.tables import print_table

BASE = "unite-b"
"""Recipe whose variants `unite diff` compares where none is named."""


def list_recipes(name: str = "") -> None:
    """Print the purpose of recipes and the true sizes of their models; of one, to the unit."""
    chosen = [recipe(name).recipe] if name else names()
    print_table(
        ("recipe", "reproduces", "encoder M", "decoder M", "total M"),
        ((each, describe(each), *_millions(each)) for each in chosen),
    )
    if name:
        print()
        print_table(("trained parameters", "number"), _to_the_unit(name))
    print(
        "\nStart one: python jobs/train.py RECIPE. As a file: unite recipes RECIPE --yaml. "
        "Differences: unite diff paper checkpoints"
    )


def print_yaml(name: str) -> None:
    """Print a recipe's whole config as YAML; ValueError when none is named."""
    if not name:
        raise ValueError(
            "--yaml writes one recipe: name it, for example unite recipes digits --yaml"
        )
    print(write_yaml(recipe(name)), end="")


def _millions(name: str) -> tuple[str, ...]:
    config = recipe(name)
    counts = _counts(config.domain, config.model)
    encoder = counts["generative_encoder"] + counts.get("separate_denoiser", 0)
    return tuple(f"{count / 1e6:.1f}" for count in (encoder, counts["decoder"], counts["trained"]))


def _to_the_unit(name: str) -> list[tuple[str, int]]:
    config = recipe(name)
    counts = _counts(config.domain, config.model)
    rows = [(part.replace("_", " "), number) for part, number in counts.items()]
    held = counts["trained"] + counts["unused_in_release"]
    return [*rows, ("trained, as in the authors' checkpoint", held)]


@cache
def _counts(domain: DomainConfig, model: ModelConfig) -> dict[str, int]:
    with torch.device("meta"):  # shapes without memory
        return parameter_counts(UNITE(model, build_domain(domain), FlowConfig()))


def diff_recipes(first: str, second: str, base: str) -> None:
    """Print the fields in which two recipes, or two variants of `base`, differ.

    Fields that rest on a decision are marked, and the reasons follow; so do those of decisions that
    both share. ValueError when a name is neither a variant nor a recipe.
    """
    if base != BASE and not {first, second} & set(VARIANTS):
        raise ValueError(
            f"--recipe {base} has no effect on {first} and {second}, which are whole recipes: it "
            f"is the base of variants ({', '.join(VARIANTS)}). Leave it out"
        )
    left, right = _resolve(first, base), _resolve(second, base)
    rows = [row for row in diff(recipe(left), recipe(right)) if row[0] != "recipe"]
    if not rows:
        print(f"{left} and {right} are the same")
        return
    ours, theirs = decisions(left), decisions(right)
    marks = {field: "decision" for field in ours | theirs}
    print_table(("field", left, right, ""), ((*row, marks.get(row[0], "")) for row in rows))
    differing = {field for field, _, _ in rows}
    told = {field: why for field, why in (ours | theirs).items() if field in differing}
    shared = {field: why for field, why in ours.items() if field in theirs.keys() - differing}
    for title, reasons in (("Decided", told), ("Decided alike in both", shared)):
        if reasons:
            print(f"\n{title}:")
            print("\n".join(f"  {field}: {why}" for field, why in reasons.items()))


def _resolve(name: str, base: str) -> str:
    return f"{base}-{name}" if name in VARIANTS else name
