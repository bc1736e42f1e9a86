"""The driver of an evaluation: check, fan out, combine, write results, track them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial

from unite import tracking
from unite.config.effects import refuse_changed
from unite.drivers.delivery import nothing_to_send, run_handle, send, untracked
from unite.drivers.progress import waiting
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import CompareArguments, EvaluateArguments
from unite.evaluation.compare import (
    check_comparisons,
    comparisons_of,
    left_out,
    print_comparisons,
    read_rows,
)
from unite.evaluation.finished import record_of, settle
from unite.evaluation.report import print_outcomes
from unite.evaluation.request import (
    Evaluation,
    compute,
    conclude,
    open_evaluation,
    report_files,
    write_report,
)
from unite.evaluation.results import RESULTS_FILE, Outcome
from unite.evaluation.suite import History
from unite.evaluation.target import Target
from unite.evaluation.untrained import evaluate_untrained, suites_of_recipe
from unite.runs import curve
from unite.storage import Store
from unite.training.progress import read_progress
from unite.words import count

logger = logging.getLogger(__name__)


def main(arguments: EvaluateArguments, storage: str) -> int:
    """Run an evaluation from check to tracking: 0, or 1 when MLflow did not take it.

    A push that sends nothing is an error, as there is nothing else that it does.
    """
    if arguments.push:
        others = [item.name for item in fields(arguments) if item.name != "push"]
        refuse_changed(arguments, others, "with --push, which measures nothing")
        pushed = tracking.push_spool(arguments.push)
        print(f"sent {count(pushed.points, 'result')} and {count(pushed.files, 'file')}")
        return 0
    try:
        if arguments.recipe:
            _evaluate_recipe(arguments, storage)
            return 0
        _evaluate_run(open_evaluation(arguments, storage))
    except tracking.TrackingError as error:
        return untracked(error)
    return 0


def _evaluate_run(evaluation: Evaluation) -> None:
    """Measure, print, send, and keep what was printed for when the command is typed again.

    TrackingError when MLflow does not take the results; then no record hides that.
    """
    target, wanted = evaluation.target, evaluation.arguments.track
    record = record_of(replace(evaluation.arguments, run=target.subject.uri))
    with kept(record) as whole:
        print("\n".join([evaluation.title, *evaluation.notices]))
        outcomes = evaluate(evaluation)
        print_outcomes(outcomes)
        print(f"cards, pictures and this table: {evaluation.home}")
        print(track(evaluation, outcomes))
        if nothing_to_send(target, wanted=wanted):
            whole([evaluation.home / RESULTS_FILE], evaluation.home)


def _evaluate_recipe(arguments: EvaluateArguments, storage: str) -> None:
    """Measure an untrained model of a recipe here, without Ray; print and keep the numbers."""
    suites = suites_of_recipe(arguments, storage)
    names = ", ".join(suite.suite for suite in suites)
    with kept(record_of(settle(arguments, storage))) as whole:
        print(f"{arguments.recipe}, untrained, seed {arguments.seed}: {names}")
        outcomes = evaluate_untrained(suites)
        for suite, outcome in zip(suites, outcomes, strict=True):
            outcome.save(suite.folder)
        print_outcomes(outcomes)
        home = Store.open(suites[0].home)
        write_report(home, outcomes)
        print(f"cards, pictures and this table: {home}")
        whole([home / RESULTS_FILE], home)


def compare(arguments: CompareArguments) -> None:
    """Print two evaluations side by side; MetricError where they must not be compared."""
    a, b = read_rows(arguments.a), read_rows(arguments.b)
    found = comparisons_of(a, b)
    if not arguments.allow_different_cards:
        check_comparisons(found)
    print_comparisons(found)
    for line in left_out(a, b):
        print(line)


def evaluate(evaluation: Evaluation) -> list[Outcome]:
    """Compute the unfinished chunks, combine all and write the results."""
    with session(evaluation.arguments) as run:
        done = compute(evaluation, run)
    return conclude(done, training_history(done.target), waiting)


def training_history(target: Target) -> History:
    """Reader of what the training run logged, from its folder or from MLflow."""
    if target.run is None:
        return lambda metric: ()
    return partial(logged, target.run, target)


def track(evaluation: Evaluation, outcomes: Sequence[Outcome]) -> str:
    """Write the results into the training run in MLflow; returns a line on the result.

    TrackingError when MLflow does not take them: they are kept, and the message says where.
    """
    files = report_files(evaluation.home, outcomes)
    return send(evaluation.target, outcomes, files, wanted=evaluation.arguments.track)


def logged(run: Store, target: Target, metric: str) -> list[float]:
    """Values of a metric: the history in the run's folder, else MLflow's, else the last one.

    The folder comes first because it needs no server and also knows runs that were not tracked; a
    folder that was copied without it, or a run of another machine on S3, leaves MLflow.
    """
    values = [value for _, value in curve(run, metric)]
    if not values:
        try:
            handle = run_handle(target)
            points = tracking.metric_history(handle, metric) if handle is not None else []
            values = [value for _, value in points]
        except tracking.TrackingError as error:
            logger.warning("%s", error)
    if not values:
        last = read_progress(run) or {}
        values = [float(last[metric])] if metric in last else []
    return values
