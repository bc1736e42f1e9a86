"""Fig. 4 with the distance: losses of a run and the measurements at its checkpoints.

Points are read from the results that evaluations left in the run's folder, so a checkpoint that was
measured before it was pruned keeps its place. Only numbers of one protocol share a line.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unite.checkpoints.store import committed, folder_of
from unite.evaluation.card import comparable
from unite.evaluation.results import RESULTS_FILE, Row, read_outcomes
from unite.figures.chart import Figure
from unite.figures.dynamics import FLOW_NOTE, LOSSES, History, losses, measured
from unite.figures.dynamics import points_of as points_of_history
from unite.figures.sheet import picture
from unite.runs import EVALUATIONS
from unite.storage import Store

CURVE_FILE = "fig4.png"
"""File in the run's folder."""
DRAWN = ("fid", "fd", "rfid", "rfd")
"""Distances that have a panel."""

Points = Mapping[str, Mapping[int, float]]
"""Metric -> images seen -> value."""


def checkpoints_of(run: Store) -> list[Store]:
    """The folders of a run's kept checkpoints, oldest first; ValueError when there are none."""
    found = [folder_of(run, images) for images in committed(run)]
    if not found:
        raise ValueError(
            f"the run {run} has no committed checkpoint yet: let it train until the first one "
            "(checkpoint.every_images)"
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
