"""Fig. 4 with the distance: losses of a run and the measurements at its checkpoints.

Points are read from the results that evaluations left in the run's folder, so a checkpoint that was
measured before it was pruned keeps its place. Only numbers of one protocol share a line.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from unite.checkpoints.store import STATE_FILE, committed, folder_of, latest
from unite.evaluation.card import comparable
from unite.evaluation.results import RESULTS_FILE, Row, read_outcomes
from unite.metrics.plots import DPI, STYLE
from unite.metrics.specs import higher_is_better, shown_name
from unite.runs import EVALUATIONS
from unite.storage import Store
from unite.training.curves import FLOW_NOTE, History, draw_lines

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


def history_of(run: Store) -> History:
    """History that the run logged up to its newest checkpoint."""
    newest = latest(run)
    assert newest is not None, "checkpoints_of comes first"
    return newest.read_json(STATE_FILE)["history"]


def _title(losses: Sequence[str]) -> str:
    """Title of the losses' panel: a single line has no legend, so its name stands here."""
    return "reconstruction, training images" + (" (L1)" if losses == ["loss/l1"] else "")


def draw(history: History, points: Points) -> bytes:
    """PNG: reconstruction losses, flow loss, and each distance, against images seen."""
    names = {name for row in history for name in row}
    losses = [name for name in ("loss/l1", "loss/lpips") if name in names]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.25 * (2 + len(points)), 2.8), layout="constrained")
        left, flow, *others = figure.subplots(1, 2 + len(points))
        draw_lines(left, history, losses or ["loss/reconstruction"], _title(losses))
        draw_lines(flow, history, ["loss/flow"], FLOW_NOTE)
        for panel, (metric, values) in zip(others, points.items(), strict=True):
            rows = [{"images": float(images), metric: v} for images, v in values.items()]
            better = "higher" if higher_is_better(metric) else "lower"
            draw_lines(panel, rows, [metric], f"{shown_name(metric)} ({better} is better)", "o")
            panel.set_xlim(flow.get_xlim())
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
        return file.getvalue()
