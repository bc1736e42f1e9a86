"""Two evaluations side by side; numbers that were measured differently are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from unite.checkpoints.layout import checkpoint_digest, latest
from unite.evaluation.card import MetricCard, differences
from unite.evaluation.results import Row, read_outcomes
from unite.metrics.errors import MetricError
from unite.metrics.specs import direction, directions, number, shown_name
from unite.runs import EVALUATIONS, RESULTS_FILE, default_storage, resolve_run
from unite.storage import Store
from unite.tables import print_table
from unite.words import command

Differences = dict[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One metric of both evaluations."""

    a: Row
    b: Row
    differing: Differences
    """Fields of the cards that differ: dotted name -> (of a, of b)."""


def read_rows(path: str) -> list[Row]:
    """The numbers of a results.json, or of a run's newest checkpoint; MetricError or StorageError
    when there are none."""
    if not path.endswith(".json"):
        path = _results_of(path)
    folder, _, name = Store.open(path).uri.rpartition("/")
    return [row for outcome in read_outcomes(Store(folder), name) for row in outcome.rows]


def _results_of(reference: str) -> str:
    """Place of the results of a run's newest checkpoint; MetricError when it has none."""
    run = Store.open(resolve_run(reference, default_storage()))
    newest = latest(run)
    if newest is None:
        raise MetricError(
            f"{run} is neither a run with a checkpoint nor a results.json: name one of them, as "
            "jobs/evaluate.py made it"
        )
    place = run / EVALUATIONS / checkpoint_digest(newest)
    if not place.is_file(RESULTS_FILE):
        measure = command("python", "jobs/evaluate.py", "--run", reference)
        raise MetricError(f"{run} has not been measured at its newest checkpoint: {measure}")
    return f"{place}/{RESULTS_FILE}"


def comparisons_of(a: Sequence[Row], b: Sequence[Row]) -> list[Comparison]:
    """Numbers of one name and suite; MetricError when there are none."""
    others = {(row.card.suite, row.card.metric): row for row in b}
    both = [(row, others.get((row.card.suite, row.card.metric))) for row in a]
    pairs = [
        Comparison(a=mine, b=yours, differing=differences(mine.card, yours.card))
        for mine, yours in both
        if yours is not None
    ]
    if not pairs:
        raise MetricError("the two evaluations have no metric in common")
    return pairs


def left_out(a: Sequence[Row], b: Sequence[Row]) -> list[str]:
    """Lines that name the numbers that one evaluation alone has, by suite."""
    sides = {"A": (a, b), "B": (b, a)}
    return [
        f"only {side} has {suite}: {', '.join(shown_name(card.metric) for card in cards)}"
        for side, (mine, others) in sides.items()
        for suite, cards in groupby(_alone(mine, others), key=lambda card: card.suite)
    ]


def _alone(mine: Sequence[Row], others: Sequence[Row]) -> list[MetricCard]:
    there = {(row.card.suite, row.card.metric) for row in others}
    return [row.card for row in mine if (row.card.suite, row.card.metric) not in there]


def check_comparisons(pairs: Sequence[Comparison]) -> None:
    """MetricError naming every field in which cards differ, unless none does."""
    merged: Differences = {}
    metrics: dict[str, list[str]] = {}
    for pair in pairs:
        for name, values in pair.differing.items():
            merged.setdefault(name, values)
            metrics.setdefault(name, []).append(pair.a.card.metric)
    if merged:
        lines = [
            f"  {name}: {values[0]!r} against {values[1]!r} ({_some(metrics[name])})"
            for name, values in merged.items()
        ]
        raise MetricError(
            "the numbers were made by different protocols:\n"
            + "\n".join(lines)
            + "\nTo compare them all the same: --allow-different-cards"
        )


def why_not_better(new: MetricCard, old: MetricCard) -> str:
    """Reason in words why `new` is not better than `old` under one protocol; empty when it is.

    MetricError when the metric has no better direction.
    """
    better = direction(new.metric)
    if better is None:
        raise MetricError(
            f"{new.metric}: neither higher nor lower is better; compare one of: "
            f"{', '.join(directions())} (distances with their extractor, as fd-digits-cnn)"
        )
    found = differences(new, old)
    if found:
        fields = "; ".join(f"{name} {a!r} against {b!r}" for name, (a, b) in found.items())
        return f"{new.metric} was measured differently: {fields}"
    gain = new.value - old.value if better == "higher" else old.value - new.value
    return "" if gain > 0 else f"{new.metric} {new.value:g} is not {better} than {old.value:g}"


def print_comparisons(pairs: Sequence[Comparison]) -> None:
    """Both values, their difference, and where the cards differ."""
    rows: list[tuple[str, ...]] = []
    for suite, found in groupby(pairs, key=lambda pair: pair.a.card.suite):
        rows += [(suite,), *map(_cells, found)]
    headings = ("metric", "A", "B", "B - A", "cards differ in")
    print_table(headings, rows, right=(1, 2, 3))


def _cells(pair: Comparison) -> tuple[str, ...]:
    a, b = pair.a.card, pair.b.card
    difference = f"{b.value - a.value:+.4g}"
    names = ", ".join(pair.differing)
    return shown_name(a.metric), number(a.value), number(b.value), difference, names


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
