"""Evaluation of a recipe without a run: suites without training or data, in this process."""

from __future__ import annotations

from dataclasses import fields, replace

from unite.config.effects import refuse_changed
from unite.config.recipes import recipe
from unite.config.serialise import digest
from unite.evaluation.arguments import EvaluateArguments, check, chosen_suites
from unite.evaluation.images.extractors import exact_convolutions
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome
from unite.evaluation.suites.compute import ComputeSuite
from unite.evaluation.suites.entropy import EntropySuite
from unite.evaluation.task import Subject, Suite
from unite.storage import Store

SUITES = ("entropy", "compute")
"""Suites that measure an untrained model."""
FOLDER = "untrained"
"""Folder below the storage with results of recipes."""
READ = ("recipe", "suite", "storage", "seed", "entropy_bins")
"""Arguments that mean something without a run."""


def suites_of_recipe(arguments: EvaluateArguments, storage: str) -> list[Suite]:
    """The suites asked for, or all that measure an untrained model, of `arguments.recipe`.

    ValueError for an unknown recipe, for suites that need a run or its data, and for options that
    mean nothing without one.
    """
    config = recipe(arguments.recipe)
    wanted = chosen_suites(arguments.suite) if arguments.suite else SUITES
    if missing := [name for name in wanted if name not in SUITES]:
        raise ValueError(
            f"--suite {' '.join(missing)} needs a trained run and its data, and --recipe "
            f"{arguments.recipe} is neither: take --suite {' '.join(SUITES)}, or train it and name "
            "the run with --run"
        )
    others = [item.name for item in fields(arguments) if item.name not in READ]
    check(replace(arguments, suite=wanted))
    refuse_changed(arguments, others, "with --recipe, which has no run")
    name = f"{arguments.recipe}-{digest(config)}-seed-{arguments.seed}"
    home = (Store.open(arguments.storage or storage) / FOLDER / name).uri
    subject = Subject(digest=name, ema=False, uri="", home=home, config=config)
    makers = {
        "entropy": lambda: EntropySuite(
            total=1, home=home, subject=subject, bins=arguments.entropy_bins, seed=arguments.seed
        ),
        "compute": lambda: ComputeSuite(total=1, home=home, subject=subject),
    }
    return [makers[suite]() for suite in wanted]


def evaluate_untrained(suites: list[Suite]) -> list[Outcome]:
    """Measure in this process; only the caller writes files."""
    instruments, outcomes = Instruments(), []
    with exact_convolutions():
        for suite in suites:
            chunks = [suite.measure(instruments, chunk) for chunk in suite.chunks()]
            outcomes.append(suite.combine(chunks))
    return outcomes
