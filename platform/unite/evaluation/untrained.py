"""Evaluation of a recipe without a run: suites without training or data, in this process."""

from __future__ import annotations

from dataclasses import fields, replace

from unite.config.effects import refuse_changed
from unite.config.recipes import recipe
from unite.evaluation.arguments import EvaluateArguments, check, chosen_suites
from unite.evaluation.finished import untrained_home
from unite.evaluation.instruments import Instruments, exact_convolutions
from unite.evaluation.results import Outcome
from unite.evaluation.suite import Suite
from unite.evaluation.suites import suites_for
from unite.evaluation.target import Subject

READ = ("recipe", "suite", "storage", "seed", "entropy_bins")
"""Arguments that mean something without a run."""


def suites_of_recipe(arguments: EvaluateArguments, storage: str) -> list[Suite]:
    """The suites asked for, or all that measure an untrained model, of `arguments.recipe`.

    ValueError for an unknown recipe, for suites that need a run or its data, and for options that
    mean nothing without one.
    """
    config = recipe(arguments.recipe)
    kinds = {name: entry.load() for name, entry in suites_for(config.domain).items()}
    able = tuple(name for name, kind in kinds.items() if kind.untrained)
    wanted = chosen_suites(arguments.suite, config.domain) if arguments.suite else able
    if missing := [name for name in wanted if name not in able]:
        raise ValueError(
            f"--suite {' '.join(missing)} needs a trained run and its data, and --recipe "
            f"{arguments.recipe} is neither: take --suite {' '.join(able)}, or train it and name "
            "the run with --run"
        )
    others = [item.name for item in fields(arguments) if item.name not in READ]
    check(replace(arguments, suite=wanted))
    refuse_changed(arguments, others, "with --recipe, which has no run")
    home = untrained_home(arguments.recipe, arguments.seed, arguments.storage or storage)
    subject = Subject(digest=home.name, ema=False, uri="", home=home.uri, config=config)
    return [kinds[suite].of_untrained(arguments, subject) for suite in wanted]


def evaluate_untrained(suites: list[Suite]) -> list[Outcome]:
    """Measure in this process; only the caller writes files."""
    instruments, outcomes = Instruments(), []
    with exact_convolutions():
        for suite in suites:
            chunks = [suite.measure(instruments, chunk) for chunk in suite.chunks()]
            outcomes.append(suite.combine(chunks))
    return outcomes
