"""`evaluate.py curve`: every kept checkpoint of a run measured, and Fig. 4 with the distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console

from unite import tracking
from unite.config.effects import refuse_changed
from unite.config.schema import CheckpointConfig
from unite.domains import build_domain
from unite.drivers.delivery import nothing_to_send, run_handle, untracked
from unite.drivers.evaluate import track, training_history
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import CurveArguments
from unite.evaluation.columns import print_columns
from unite.evaluation.curve import (
    CURVE_FILE,
    Points,
    checkpoints_of,
    draw,
    drawn,
    points_of,
)
from unite.evaluation.finished import record_of
from unite.evaluation.request import Evaluation, compute, conclude, open_evaluation
from unite.evaluation.results import RESULTS_FILE, Outcome, Row
from unite.metrics.specs import number, shown_name
from unite.runs import EVALUATIONS, read_metrics, resolve_run, run_of
from unite.storage import Store
from unite.words import count


def main(arguments: CurveArguments, storage: str, console: Console) -> int:
    """Measure, draw, print and send: 0, or 1 when MLflow did not take it."""
    evaluations = prepare_all(arguments, storage)
    run = evaluations[-1].target.run
    assert run is not None
    record = record_of(replace(arguments, run=evaluations[-1].target.subject.uri))
    try:
        with kept(record, console) as whole:
            titles = [each.title for each in evaluations]
            for line in (*titles, *evaluations[-1].notices, _kept(evaluations)):
                console.print(line, soft_wrap=True, markup=False)
            newest = _measure(evaluations, console)
            points = points_of(run, newest)
            run.write(CURVE_FILE, draw(read_metrics(run), points))
            _print(points, _noun(evaluations[-1]), console)
            console.print(f"curves: {run / CURVE_FILE}", soft_wrap=True, markup=False)
            if nothing_to_send(evaluations[-1].target, wanted=arguments.track):
                results = [each.home / RESULTS_FILE for each in evaluations]
                whole([run / CURVE_FILE, *results], run / EVALUATIONS)
    except tracking.TrackingError as error:
        return untracked(error)
    return 0


def _measure(evaluations: Sequence[Evaluation], console: Console) -> list[Row]:
    """Measure every checkpoint and send its results; the distances of the newest one."""
    newest: list[Row] = []
    with session(evaluations[0].arguments) as work:
        for each in evaluations:
            outcomes = conclude(compute(each, work), training_history(each.target))
            newest = drawn([row for outcome in outcomes for row in outcome.rows])
            _send(each, outcomes, newest, console)
    return newest


def prepare_all(arguments: CurveArguments, storage: str) -> list[Evaluation]:
    """A checked request per kept checkpoint, oldest first.

    ValueError for what is no run, or has no checkpoint.
    """
    refuse_changed(arguments, ("recipe", "push"), "on the curve of a run")
    place = Store.open(resolve_run(arguments.run, arguments.storage or storage))
    run = run_of(place) or place
    requests = [replace(arguments, run=each.uri) for each in checkpoints_of(run)]
    return [open_evaluation(each, storage) for each in requests]


def _send(
    evaluation: Evaluation, outcomes: Sequence[Outcome], rows: Sequence[Row], console: Console
) -> None:
    """Results to MLflow, unless it has these already: the same command may come again and again."""
    handle, step = run_handle(evaluation.target), evaluation.target.subject.images
    if evaluation.arguments.track and handle is not None and rows:
        known = tracking.metric_history(handle, f"eval/{rows[0].card.suite}/{rows[0].card.metric}")
        if (step, rows[0].card.value) in known:
            return
    console.print(
        f"{count(step, _noun(evaluation))}: {track(evaluation, outcomes)}",
        soft_wrap=True,
        markup=False,
    )


def _kept(evaluations: Sequence[Evaluation]) -> str:
    """Number of checkpoints in words, with the fields that keep more."""
    kept: CheckpointConfig = evaluations[-1].target.subject.config.checkpoint
    noun = _noun(evaluations[-1])
    number_of = f"{len(evaluations)} checkpoint{'s are' if len(evaluations) > 1 else ' is'} kept"
    return (
        f"{number_of} (checkpoint.keep_last = {kept.keep_last}, checkpoint.keep_best = "
        f"{kept.keep_best}, one every {count(kept.every_images, noun)}). A run that is started "
        "with a larger --checkpoint.keep-last keeps more; points that were measured before a "
        "checkpoint was pruned stay on the curve"
    )


def _noun(evaluation: Evaluation) -> str:
    return build_domain(evaluation.target.subject.config.domain).noun


def _print(points: Points, noun: str, console: Console) -> None:
    steps = sorted({step for values in points.values() for step in values})
    rows = [
        (
            f"{step:,}",
            *(number(values[step]) if step in values else "" for values in points.values()),
        )
        for step in steps
    ]
    print_columns(
        console, (f"{noun}s", *map(shown_name, points)), rows, right=range(len(points) + 1)
    )
