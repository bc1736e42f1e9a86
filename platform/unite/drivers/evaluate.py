"""The driver of an evaluation: check, fan out, combine, write results, track them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.console import Console

from unite import tracking
from unite.drivers.delivery import nothing_to_send, run_handle, send, untracked
from unite.drivers.rates import training_rates
from unite.drivers.session import session
from unite.evaluation.arguments import (
    SUITES,
    CompareArguments,
    EvaluateArguments,
    check,
    chosen_suites,
)
from unite.evaluation.chunks import FOLDER as CHUNKS
from unite.evaluation.compare import check_pairs, pairs_of, print_pairs, read_rows
from unite.evaluation.dataset import class_counts
from unite.evaluation.finished import record_of
from unite.evaluation.guidance import SUITE as CFG_SWEEP
from unite.evaluation.guidance import sweep_guidance, too_few_to_search
from unite.evaluation.images.fitting import FitTask
from unite.evaluation.images.preparation import (
    Run,
    check_reference,
    prepare_references,
    prepare_sources,
    try_extractors,
)
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.small import FitOptions
from unite.evaluation.images.sources import SMALL, Choice, ExtractorSource, choose
from unite.evaluation.plan import (
    NEEDS_FEATURES,
    NEEDS_LABELS,
    NEEDS_REFERENCE,
    Ingredients,
    num_samples,
    sampling_of,
    suites_of,
)
from unite.evaluation.report import markdown, print_table, table_lines
from unite.evaluation.results import (
    RESULTS_FILE,
    Outcome,
    merge_outcomes,
    write_outcomes,
)
from unite.evaluation.suites.compute import ComputeSuite
from unite.evaluation.suites.generation import Generation
from unite.evaluation.suites.reconstruction import lpips_available
from unite.evaluation.target import Target, open_target
from unite.evaluation.task import Suite, read_chunks, work_of
from unite.evaluation.untrained import evaluate_untrained, suites_of_recipe
from unite.metrics.moments import MetricError
from unite.storage import Store
from unite.words import count

logger = logging.getLogger(__name__)

REPORT_FILE = "report.md"


def main(arguments: EvaluateArguments, storage: str, console: Console) -> int:
    """Run an evaluation from check to tracking: 0, or 1 when MLflow did not take it."""
    try:
        if arguments.push:
            pushed = tracking.push_spool(arguments.push)
            console.print(
                f"sent {count(pushed.points, 'result')} and {count(pushed.files, 'file')}"
            )
            return 0
        if arguments.recipe:
            _evaluate_recipe(arguments, storage, console)
            return 0
        _evaluate_run(prepare(arguments, storage), console)
    except tracking.TrackingError as error:
        return untracked(error)
    return 0


def _evaluate_run(evaluation: Evaluation, console: Console) -> None:
    """Measure, print, send, and keep what was printed for when the command is typed again.

    TrackingError when MLflow does not take the results; then no record hides that.
    """
    target, wanted = evaluation.target, evaluation.arguments.track
    record = record_of(replace(evaluation.arguments, run=target.subject.uri))
    subject = describe(evaluation)
    _print([subject, *notices(evaluation)], console)
    outcomes = evaluate(evaluation)
    print_table(outcomes, console)
    where = f"cards, pictures and this table: {evaluation.home}"
    _print([where], console)
    _print([sent := track(evaluation, outcomes)], console)
    if record and nothing_to_send(target, wanted=wanted):
        record.keep([subject, *table_lines(outcomes, console.width), where, sent])


def _print(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def _evaluate_recipe(arguments: EvaluateArguments, storage: str, console: Console) -> None:
    """Measure an untrained model of a recipe here, without Ray; print and keep the numbers."""
    suites = suites_of_recipe(arguments, storage)
    names = ", ".join(suite.suite for suite in suites)
    console.print(f"{arguments.recipe}, untrained, seed {arguments.seed}: {names}")
    outcomes = evaluate_untrained(suites)
    for suite, outcome in zip(suites, outcomes, strict=True):
        outcome.save(suite.folder)
    print_table(outcomes, console)
    home = Store.open(suites[0].home)
    _write(home, outcomes)
    console.print(f"cards, pictures and this table: {home}", soft_wrap=True)


def _write(home: Store, outcomes: Sequence[Outcome]) -> None:
    """Write results.json and report.md, with earlier results of other suites on this subject."""
    everything = merge_outcomes(home, outcomes, (CFG_SWEEP, *SUITES))
    write_outcomes(home, everything)
    home.write(REPORT_FILE, markdown(everything).encode())


def compare(arguments: CompareArguments, console: Console) -> None:
    """Print two evaluations side by side; CardMismatchError where they must not be compared."""
    pairs = pairs_of(read_rows(arguments.a), read_rows(arguments.b))
    if not arguments.allow_different_cards:
        check_pairs(pairs)
    print_pairs(pairs, console)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A checked request."""

    arguments: EvaluateArguments
    target: Target
    suites: tuple[str, ...]
    choice: Choice
    """Chosen feature extractors."""

    @property
    def home(self) -> Store:
        """Folder of all files of this checkpoint's evaluations."""
        return Store.open(self.target.subject.home)

    @property
    def weights(self) -> str:
        """Folder or URI of pretrained files."""
        return self.arguments.weights or self.target.subject.config.weights


def prepare(arguments: EvaluateArguments, storage: str) -> Evaluation:
    """Check everything that can be checked without a cluster or an accelerator.

    ValueError, CheckpointError, ShardError, MetricError or StorageError say what is wrong.
    """
    check(arguments)
    suites = chosen_suites(arguments.suite)
    target = open_target(
        arguments.run,
        arguments.storage or storage,
        ema=arguments.ema,
        data=arguments.data,
        eval_data=arguments.eval_data,
    )
    if "generation" in suites:
        num_samples(arguments, target)
        sampling_of(arguments, target)
    if set(suites) & set(NEEDS_LABELS):
        for data in (target.train, target.held_out):
            class_counts(data, target.subject.config.domain)
    if "compute" in suites and not target.subject.trained_here:
        suites = tuple(name for name in suites if name != "compute")
        logger.warning("no suite compute: what a run costs needs its config, not weights alone")
    choice = Choice(places=())
    if set(suites) & set(NEEDS_FEATURES):
        weights = arguments.weights or target.subject.config.weights
        choice = choose(arguments.extractor, target.subject.config.domain, weights)
    evaluation = Evaluation(arguments=arguments, target=target, suites=suites, choice=choice)
    _check_given_reference(evaluation)
    evaluation.home.check_writable()
    return evaluation


def _check_given_reference(evaluation: Evaluation) -> None:
    """MetricError for a file that is no reference, or does not fit extractor or data."""
    given, places = evaluation.arguments.reference, evaluation.choice.places
    if not given:
        return
    if places[:1] == (SMALL,):  # whether it is of this extractor is known once that is fitted
        width = Reference.load(given).mu_F.size
        if width != FitOptions.num_features:
            raise MetricError(
                f"--reference {given} has {width} features, and the small extractor that is fitted "
                f"on the training data has {FitOptions.num_features}: name the --extractor that "
                "the reference was made with, or leave --reference out"
            )
    elif places:
        images = evaluation.target.subject.config.domain
        source = ExtractorSource.open(places[0], images, evaluation.weights)
        check_reference(given, source, evaluation.target.train)


def describe(evaluation: Evaluation) -> str:
    """Line that names the measurement."""
    subject, target = evaluation.target.subject, evaluation.target
    what = target.run or subject.uri
    return (
        f"{what} after {count(subject.images, 'image')}, {'averaged' if subject.ema else 'raw'} "
        "weights "
        f"(checkpoint {subject.digest}): {', '.join(evaluation.suites)}"
    )


def notices(evaluation: Evaluation) -> list[str]:
    """Notes on missing or changed measurements, shown while they can still be changed."""
    arguments, target = evaluation.arguments, evaluation.target
    told = list(evaluation.choice.remarks)
    if "reconstruction" in evaluation.suites:
        why = lpips_available(target.subject.config.domain.size, evaluation.weights)
        told += [f"No LPIPS. {why}"] if why else []
    if SMALL in evaluation.choice.places:
        task = FitTask.of(target.train, target.subject.config.domain, target.storage)
        told += [task.title] if any(not work.finished for work in work_of(task)) else []
    if arguments.cfg_adaptive:
        told.append(too_few_to_search(num_samples(arguments, target)))
    if "generation" in evaluation.suites:
        classes = class_counts(target.train, target.subject.config.domain)
        balanced = num_samples(arguments, target) if arguments.labels == "balanced" else 0
        told += [classes.warning(balanced)] if classes else []
    return [line for line in told if line]


def evaluate(evaluation: Evaluation) -> list[Outcome]:
    """Compute the unfinished chunks and combine all.

    results.json and report.md keep earlier results of other suites on this checkpoint.
    """
    with session(evaluation.arguments) as run:
        suites, found = compute(evaluation, run)
    return conclude(evaluation, suites, found)


def conclude(
    evaluation: Evaluation, suites: Sequence[Suite], found: Outcome | None
) -> list[Outcome]:
    """Combine the results of `compute`, and write them."""
    outcomes = [found] if found else []
    outcomes += [combine(_informed(suite, evaluation.target)) for suite in suites]
    remarks = evaluation.choice.remarks
    if remarks:
        outcomes[0] = replace(outcomes[0], remarks=(*remarks, *outcomes[0].remarks))
    _write(evaluation.home, outcomes)
    return outcomes


def combine(suite: Suite) -> Outcome:
    """The numbers of a suite whose chunks are all there, kept in its folder."""
    outcome = suite.combine(read_chunks(suite))
    outcome.save(suite.folder)
    suite.folder.tidy(CHUNKS)
    return outcome


def ingredients(evaluation: Evaluation, run: Run) -> Ingredients:
    """A request with its extractors and references, which are made where they are missing."""
    arguments, target = evaluation.arguments, evaluation.target
    images, storage, data = target.subject.config.domain, target.storage, target.train
    sources = prepare_sources(evaluation.choice, data, images, storage, evaluation.weights, run)
    try_extractors(sources, data, images)
    references: tuple[str, ...] = ()
    if set(evaluation.suites) & set(NEEDS_REFERENCE):
        given = arguments.reference
        references = prepare_references(sources, data, images, storage, run, given=given)
    return Ingredients(
        target=target,
        arguments=replace(arguments, suite=evaluation.suites),
        sources=sources,
        references=references,
    )


def compute(evaluation: Evaluation, run: Run) -> tuple[list[Suite], Outcome | None]:
    """Do the workers' part; returns the suites, whose chunks are all there, and the sweep."""
    arguments = evaluation.arguments
    suites = suites_of(ingredients(evaluation, run))
    found = None
    if arguments.cfg_sweep or arguments.cfg_adaptive:
        suites, found = _at_best_scale(suites, run, arguments.cfg_adaptive)
    run("evaluating", [work for suite in suites for work in work_of(suite)])
    return suites, found


def _at_best_scale(
    suites: Sequence[Suite], run: Run, adaptive: bool
) -> tuple[list[Suite], Outcome]:
    """The suites with generation moved to the guidance scale that a sweep finds."""
    base = next(suite for suite in suites if isinstance(suite, Generation))
    best, found = sweep_guidance(base, run, adaptive=adaptive)
    found.save(best.folder / found.suite)
    return [best if suite is base else suite for suite in suites], found


def _informed(suite: Suite, target: Target) -> Suite:
    """The suite, with the run's measured speed if it is the compute suite."""
    if not isinstance(suite, ComputeSuite) or target.run is None:
        return suite
    return replace(suite, rates=training_rates(target.run, run_handle(target)))


def track(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> str:
    """Write the results into the training run in MLflow; returns a line on the result.

    TrackingError when MLflow does not take them: they are kept, and the message says where.
    """
    files = {f"{o.suite}/{name}": data for o in outcomes for name, data in o.files.items()}
    files |= {name: evaluation.home.read(name) for name in (RESULTS_FILE, REPORT_FILE)}
    wanted = evaluation.arguments.track
    return send(evaluation.target, outcomes, files, wanted=wanted)
