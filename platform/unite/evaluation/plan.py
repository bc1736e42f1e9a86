"""Tasks of an evaluation, made from its arguments and target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from unite.config.effects import override
from unite.config.schema import SamplingConfig
from unite.evaluation.arguments import EvaluateArguments, chosen_suites
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.suites.alignment import AlignmentSuite
from unite.evaluation.suites.compute import ComputeSuite
from unite.evaluation.suites.entropy import EntropySuite
from unite.evaluation.suites.generation import Generation
from unite.evaluation.suites.probe import ProbeSuite
from unite.evaluation.suites.reconstruction import Reconstruction, lpips_available
from unite.evaluation.suites.trajectory import TrajectorySuite
from unite.evaluation.target import Target
from unite.evaluation.task import Suite
from unite.metrics.fidelity import FidelityPlan
from unite.metrics.noise_levels import TrajectoryConfig
from unite.metrics.pathways import AlignmentConfig
from unite.sampling.seeds import balanced_labels

DEFAULT_SAMPLES = 50_000
SMALL_DATA_FACTOR = 2
"""Default N per training image, for a training set under DEFAULT_SAMPLES / SMALL_DATA_FACTOR."""
FEWEST_SAMPLES = FidelityPlan.splits
MOST_IMAGES = 50_000
"""Largest number of held-out images that are reconstructed by default."""


@dataclass(frozen=True, kw_only=True)
class Ingredients:
    """Inputs of all suites: arguments, target, extractors, references."""

    target: Target
    arguments: EvaluateArguments
    sources: tuple[ExtractorSource, ...] = ()
    references: tuple[str, ...] = ()
    """One file per extractor."""

    def under(self, arguments: EvaluateArguments) -> Ingredients:
        """The same inputs under another request."""
        return replace(self, arguments=arguments)


def num_samples(arguments: EvaluateArguments, target: Target) -> int:
    """N of the generation suite; ValueError when it cannot be spread evenly over the classes."""
    classes = target.subject.config.domain.num_classes
    if 0 < arguments.num_samples < FEWEST_SAMPLES:
        raise ValueError(
            f"--num-samples {arguments.num_samples}: the Inception Score needs a sample in each of "
            f"its {FEWEST_SAMPLES} splits; draw at least {FEWEST_SAMPLES}"
        )
    if arguments.num_samples:
        if arguments.labels == "balanced":
            balanced_labels(arguments.num_samples, classes)
        return arguments.num_samples
    small = SMALL_DATA_FACTOR * target.train.num_rows
    return max(classes, min(DEFAULT_SAMPLES, small) // classes * classes)


def sampling_of(arguments: EvaluateArguments, target: Target) -> SamplingConfig:
    """The run's own sampling settings, changed by the flags that were given.

    ValueError for values out of range and for flags that would do nothing.
    """
    names = ("solver", "num_steps", "cfg_scale", "cfg_interval")
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    searched = arguments.cfg_sweep or arguments.cfg_adaptive
    return override(target.subject.config.sampling, given, scale_is_searched=searched)


def suites_of(ingredients: Ingredients) -> list[Suite]:
    """The suites that were asked for, in their order."""
    makers = {name: MAKERS[name] for name in chosen_suites(ingredients.arguments.suite)}
    return [make(ingredients) for make in makers.values()]


def generation(ingredients: Ingredients) -> Generation:
    """Samples under the chosen protocol."""
    arguments, target = ingredients.arguments, ingredients.target
    return Generation(
        total=num_samples(arguments, target),
        sampling=sampling_of(arguments, target),
        labels=arguments.labels,
        sources=ingredients.sources,
        references=ingredients.references,
        encoding=target.train.encoding,
        seed=arguments.seed,
        **_common(ingredients),
    )


def _reconstruction(ingredients: Ingredients) -> Suite:
    arguments, target = ingredients.arguments, ingredients.target
    config = target.subject.config
    weights = arguments.weights or config.weights
    why_no_lpips = lpips_available(config.domain.size, weights)
    return Reconstruction(
        total=min(arguments.num_images or MOST_IMAGES, target.held_out.num_rows),
        data=target.held_out,
        sources=ingredients.sources,
        lpips=not why_no_lpips,
        why_no_lpips=why_no_lpips,
        weights=weights,
        seed=arguments.seed,
        **_common(ingredients),
    )


def _alignment(ingredients: Ingredients) -> Suite:
    return AlignmentSuite(
        total=_analysed(ingredients),
        data=ingredients.target.held_out,
        config=AlignmentConfig(seed=ingredients.arguments.seed),
        **_common(ingredients),
    )


def _trajectory(ingredients: Ingredients) -> Suite:
    return TrajectorySuite(
        total=_analysed(ingredients),
        data=ingredients.target.held_out,
        config=TrajectoryConfig(seed=ingredients.arguments.seed),
        **_common(ingredients),
    )


def _entropy(ingredients: Ingredients) -> Suite:
    bins = ingredients.arguments.entropy_bins
    return EntropySuite(total=1, bins=bins, **_common(ingredients))


def _probe(ingredients: Ingredients) -> Suite:
    arguments, target = ingredients.arguments, ingredients.target
    num_train = min(arguments.probe_images, target.train.num_rows)
    num_test = min(arguments.num_images or MOST_IMAGES, target.held_out.num_rows)
    return ProbeSuite(
        total=num_train + num_test,
        num_train=num_train,
        train=target.train,
        held_out=target.held_out,
        seed=arguments.seed,
        **_common(ingredients),
    )


def _compute(ingredients: Ingredients) -> Suite:
    return ComputeSuite(
        total=1,
        images_per_epoch=ingredients.target.train.num_rows,
        **_common(ingredients),
    )


def _analysed(ingredients: Ingredients) -> int:
    return min(ingredients.arguments.analysis_images, ingredients.target.held_out.num_rows)


def _common(ingredients: Ingredients) -> dict[str, Any]:
    subject = ingredients.target.subject
    return {
        "home": subject.home,
        "subject": subject,
        "precision": ingredients.arguments.precision,
    }


MAKERS: Mapping[str, Callable[[Ingredients], Suite]] = {
    "generation": generation,
    "reconstruction": _reconstruction,
    "alignment": _alignment,
    "trajectory": _trajectory,
    "entropy": _entropy,
    "probe": _probe,
    "compute": _compute,
}
"""Suite -> its maker; add your own here and its name in `arguments.SUITES`."""
NEEDS_FEATURES = ("generation", "reconstruction")
NEEDS_REFERENCE = ("generation",)
NEEDS_LABELS = ("generation", "probe")


def needed(suites: Sequence[str], users: Sequence[str]) -> bool:
    """True if one of the suites is among the users."""
    return bool(set(suites) & set(users))
