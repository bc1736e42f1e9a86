"""`evaluate.py curve`: every kept checkpoint of a run measured, and Fig. 4 with the distance.

Points are read from the results that evaluations left in the run's folder, so a checkpoint that was
measured before it was pruned keeps its place. Only numbers of one protocol share a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from unite import tracking
from unite.checkpoints.store import committed, folder_of
from unite.config.effects import refuse_changed
from unite.config.schema import CheckpointConfig
from unite.domains import build_domain
from unite.drivers.delivery import nothing_to_send, run_handle, untracked
from unite.drivers.evaluate import track, training_history
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import CurveArguments
from unite.evaluation.card import comparable
from unite.evaluation.finished import record_of
from unite.evaluation.request import Evaluation, compute, conclude, open_evaluation
from unite.evaluation.results import RESULTS_FILE, Outcome, Row, read_outcomes
from unite.figures.chart import Figure
from unite.figures.dynamics import FLOW_NOTE, LOSSES, History, losses, measured
from unite.figures.dynamics import points_of as points_of_history
from unite.figures.sheet import picture
from unite.metrics.specs import number, shown_name
from unite.runs import EVALUATIONS, read_metrics, resolve_run, run_of
from unite.storage import Store
from unite.tables import print_table
from unite.words import count

CURVE_FILE = "fig4.png"
"""File in the run's folder."""
DRAWN = ("fid", "fd", "rfid", "rfd")
"""Distances that have a panel."""

Points = Mapping[str, Mapping[int, float]]
"""Metric -> images seen -> value."""


def main(arguments: CurveArguments, storage: str) -> int:
    """Measure, draw, print and send: 0, or 1 when MLflow did not take it."""
    evaluations = prepare_all(arguments, storage)
    run = evaluations[-1].target.run
    assert run is not None
    record = record_of(replace(arguments, run=evaluations[-1].target.subject.uri))
    try:
        with kept(record) as whole:
            titles = [each.title for each in evaluations]
            print("\n".join([*titles, *evaluations[-1].notices, _kept(evaluations)]))
            newest = _measure(evaluations)
            points = points_of(run, newest)
            run.write(CURVE_FILE, draw(read_metrics(run), points))
            _print(points, _noun(evaluations[-1]))
            print(f"curves: {run / CURVE_FILE}")
            if nothing_to_send(evaluations[-1].target, wanted=arguments.track):
                results = [each.home / RESULTS_FILE for each in evaluations]
                whole([run / CURVE_FILE, *results], run / EVALUATIONS)
    except tracking.TrackingError as error:
        return untracked(error)
    return 0


def _measure(evaluations: Sequence[Evaluation]) -> list[Row]:
    """Measure every checkpoint and send its results; the distances of the newest one."""
    newest: list[Row] = []
    with session(evaluations[0].arguments) as work:
        for each in evaluations:
            outcomes = conclude(compute(each, work), training_history(each.target))
            newest = drawn([row for outcome in outcomes for row in outcome.rows])
            _send(each, outcomes, newest)
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


def _send(evaluation: Evaluation, outcomes: Sequence[Outcome], rows: Sequence[Row]) -> None:
    """Results to MLflow, unless it has these already: the same command may come again and again."""
    handle, step = run_handle(evaluation.target), evaluation.target.subject.images
    if evaluation.arguments.track and handle is not None and rows:
        known = tracking.metric_history(handle, f"eval/{rows[0].card.suite}/{rows[0].card.metric}")
        if (step, rows[0].card.value) in known:
            return
    print(f"{count(step, _noun(evaluation))}: {track(evaluation, outcomes)}")


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


def _print(points: Points, noun: str) -> None:
    steps = sorted({step for values in points.values() for step in values})
    rows = [
        (
            f"{step:,}",
            *(number(values[step]) if step in values else "" for values in points.values()),
        )
        for step in steps
    ]
    print_table((f"{noun}s", *map(shown_name, points)), rows, right=range(len(points) + 1))


def checkpoints_of(run: Store) -> list[Store]:
    """The folders of a run's kept checkpoints, oldest first; ValueError when there are none."""
    found = [folder_of(run, images) for images in committed(run)]
    if not found:
        raise ValueError(
            f"{run} has no committed checkpoint, and a curve has a point for each: name a run, and "
            "let it train until its first one (checkpoint.every_images)"
        )
    return found


def drawn(rows: Sequence[Row]) -> list[Row]:
    """The distances among an evaluation's numbers."""
    return [row for row in rows if row.card.metric.partition("-")[0] in DRAWN]


def points_of(run: Store, newest: Sequence[Row]) -> Points:
    """The numbers that a run's folder has of the same metrics and protocols as `newest`."""
    found: dict[str, dict[int, float]] = {row.card.metric: {} for row in newest}
    homes = [run / EVALUATIONS / name for name in run.list(EVALUATIONS)]
    outcomes = [o for home in homes if home.is_file(RESULTS_FILE) for o in read_outcomes(home)]
    for card in (row.card for outcome in outcomes for row in outcome.rows):
        for mine in newest:
            same = (card.suite, card.metric) == (mine.card.suite, mine.card.metric)
            if same and comparable(card, mine.card):
                found[card.metric][card.step] = card.value
    return {metric: dict(sorted(points.items())) for metric, points in found.items()}


def draw(history: History, points: Points) -> bytes:
    """PNG: both losses and each distance, against images seen."""
    curves = losses({name: points_of_history(history, name) for name in LOSSES})
    panels = [measured(metric, list(values.items())) for metric, values in points.items()]
    legend = [*enumerate(LOSSES.values())]
    figure = Figure(panels=[curves, *panels], legend=legend, caption=FLOW_NOTE)
    return picture(figure).png
