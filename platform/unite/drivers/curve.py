"""`evaluate.py curve`: every kept checkpoint of a run measured, and Fig. 4 with its quality.

Drawn is what speaks for a run: of each suite the metric that is asked first where runs are
compared, such as the FID of images, or the distance of bond lengths of molecules.

Points are read from the results that evaluations left in the run's folder, so a checkpoint that was
measured before it was pruned keeps its place. Only numbers of one protocol share a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

from unite import tracking
from unite.checkpoints.store import committed, folder_of
from unite.config.effects import refuse_changed
from unite.config.schema import CheckpointConfig
from unite.domains import build_domain
from unite.drivers.delivery import nothing_to_send, run_handle, untracked
from unite.drivers.evaluate import track, training_history
from unite.drivers.progress import waiting
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import CurveArguments
from unite.evaluation.card import MetricCard, comparable
from unite.evaluation.finished import record_of
from unite.evaluation.request import Evaluation, compute, conclude, open_evaluation
from unite.evaluation.results import RESULTS_FILE, Outcome, Row, read_outcomes
from unite.figures.chart import Figure
from unite.figures.dynamics import FLOW_NOTE, LOSSES, History, losses, measured
from unite.figures.dynamics import points_of as points_of_history
from unite.figures.sheet import picture
from unite.metrics.specs import number, shown_name, spec_of
from unite.runs import CONFIG_FILE, EVALUATIONS, read_metrics, resolve_run, run_of
from unite.storage import Store
from unite.tables import print_table
from unite.words import count

CURVE_FILE = "fig4.png"
"""File in the run's folder."""

Points = Mapping[str, Mapping[int, float]]
"""SUITE/METRIC -> images seen -> value."""


def main(arguments: CurveArguments, storage: str) -> int:
    """Measure, draw, print and send: 0, or 1 when MLflow did not take it."""
    evaluations = prepare_all(arguments, storage)
    last = evaluations[-1]
    run, noun = run_at(last.target.subject.uri), _noun(last)
    record = record_of(replace(arguments, run=last.target.subject.uri))
    with kept(record) as whole:
        titles = [each.title for each in evaluations]
        print("\n".join([*titles, *last.notices, _kept(evaluations)]))
        newest, status = _measure(evaluations)
        points = points_of(run, newest)
        run.write(CURVE_FILE, draw(read_metrics(run), points, noun))
        _print(points, noun)
        print(f"curves: {run / CURVE_FILE}")
        if status == 0 and nothing_to_send(last.target, wanted=arguments.track):
            results = [each.home / RESULTS_FILE for each in evaluations]
            whole([run / CURVE_FILE, *results], run / EVALUATIONS)
    return status


def _measure(evaluations: Sequence[Evaluation]) -> tuple[list[Row], int]:
    """Measure every checkpoint and send its results.

    Returns the drawn numbers of the newest one, and 1 when MLflow did not take some, else 0.
    """
    newest: list[Row] = []
    status = 0
    with session(evaluations[0].arguments) as work:
        for each in evaluations:
            done = compute(each, work)
            outcomes = conclude(done, training_history(each.target), waiting)
            newest = drawn([row for outcome in outcomes for row in outcome.rows])
            try:
                _send(each, outcomes, newest)
            except tracking.TrackingError as error:
                status = untracked(error)
    return newest, status


def prepare_all(arguments: CurveArguments, storage: str) -> list[Evaluation]:
    """A checked request per kept checkpoint, oldest first.

    ValueError for what is no run, or has no checkpoint.
    """
    refuse_changed(arguments, ("recipe", "push"), "on the curve of a run")
    run = run_at(resolve_run(arguments.run, arguments.storage or storage))
    requests = [replace(arguments, run=each.uri) for each in checkpoints_of(run)]
    return [open_evaluation(each, storage) for each in requests]


def run_at(uri: str) -> Store:
    """The run at a place, or that a checkpoint belongs to; ValueError where there is none."""
    place = Store.open(uri)
    run = run_of(place) or place
    if not run.is_file(CONFIG_FILE):
        raise ValueError(
            f"{run} is no run, as it has no {CONFIG_FILE}, and a curve is of the checkpoints of a "
            "run: name a run's folder, or measure this one alone without the word curve"
        )
    return run


def _send(evaluation: Evaluation, outcomes: Sequence[Outcome], rows: Sequence[Row]) -> None:
    """Results to MLflow, unless it has these already: the same command may come again and again."""
    handle, step = run_handle(evaluation.target), evaluation.target.subject.images
    if evaluation.arguments.track and handle is not None and rows:
        card = rows[0].card
        with suppress(tracking.TrackingError):  # of an MLflow that is away `track` says more
            if (step, card.value) in tracking.metric_history(handle, f"eval/{_place(card)}"):
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
    print_table((f"{noun}s", *map(_name, points)), rows, right=range(len(points) + 1))


def _name(place: str) -> str:
    """Name of a suite's metric, with the part of a joint model that it is of."""
    suite, _, metric = place.partition("/")
    return ", ".join(filter(None, (shown_name(metric), suite.partition("-")[2])))


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
    """The numbers of an evaluation that speak for it: of each suite those that judge first."""
    found: dict[str, dict[int, list[Row]]] = {}
    for row in rows:
        spec = spec_of(row.card.metric, row.card.suite)
        if spec and spec.judges:
            found.setdefault(row.card.suite, {}).setdefault(spec.judges, []).append(row)
    return [row for ranked in found.values() for row in ranked[min(ranked)]]


def points_of(run: Store, newest: Sequence[Row]) -> Points:
    """The numbers that a run's folder has of the same metrics and protocols as `newest`."""
    found: dict[str, dict[int, float]] = {_place(row.card): {} for row in newest}
    homes = [run / EVALUATIONS / name for name in run.list(EVALUATIONS)]
    outcomes = [o for home in homes if home.is_file(RESULTS_FILE) for o in read_outcomes(home)]
    for card in (row.card for outcome in outcomes for row in outcome.rows):
        for mine in newest:
            if _place(card) == _place(mine.card) and comparable(card, mine.card):
                found[_place(card)][card.step] = card.value
    return {place: dict(sorted(points.items())) for place, points in found.items()}


def _place(card: MetricCard) -> str:
    return f"{card.suite}/{card.metric}"


def draw(history: History, points: Points, noun: str = "image") -> bytes:
    """PNG: both losses and each number that is drawn, against images seen."""
    curves = losses({name: points_of_history(history, name) for name in LOSSES}, noun=noun)
    panels = [
        measured(place, list(values.items()), title=_name(place), noun=noun)
        for place, values in points.items()
    ]
    legend = [*enumerate(LOSSES.values())]
    figure = Figure(panels=[curves, *panels], legend=legend, caption=FLOW_NOTE)
    return picture(figure).png
