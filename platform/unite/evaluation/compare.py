"""Two evaluations side by side; numbers that were measured differently are refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from unite.evaluation.report import number, shown_name
from unite.evaluation.results import Row, read_outcomes
from unite.metrics.card import CardMismatchError, differences
from unite.metrics.moments import MetricError
from unite.storage import Store

Differences = dict[str, tuple[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One metric of both evaluations."""

    a: Row
    b: Row
    differing: Differences
    """Fields of the cards that differ: dotted name -> (of a, of b)."""


def read_rows(path: str) -> list[Row]:
    """The numbers of a results.json; MetricError or StorageError when it is none."""
    folder, _, name = Store.open(path).uri.rpartition("/")
    return [row for outcome in read_outcomes(Store(folder), name) for row in outcome.rows]


def pairs_of(a: Sequence[Row], b: Sequence[Row]) -> list[Pair]:
    """Numbers of one name and suite; MetricError when there are none."""
    others = {(row.card.suite, row.card.metric): row for row in b}
    both = [(row, others.get((row.card.suite, row.card.metric))) for row in a]
    pairs = [
        Pair(a=mine, b=yours, differing=differences(mine.card, yours.card))
        for mine, yours in both
        if yours is not None
    ]
    if not pairs:
        raise MetricError("the two evaluations have no metric in common")
    return pairs


def check_pairs(pairs: Sequence[Pair]) -> None:
    """CardMismatchError naming every field in which cards differ, unless none does."""
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
        raise CardMismatchError(
            "the numbers were made by different protocols:\n"
            + "\n".join(lines)
            + "\nTo compare them all the same: --allow-different-cards",
            merged,
        )


def print_pairs(pairs: Sequence[Pair], console: Console) -> None:
    """Both values, their difference, and where the cards differ."""
    table = Table("suite", "metric", "A", "B", "B - A", "cards differ in", box=None)
    for pair in pairs:
        a, b = pair.a.card, pair.b.card
        table.add_row(
            a.suite,
            shown_name(a.metric),
            number(a.value),
            number(b.value),
            f"{b.value - a.value:+.4g}",
            ", ".join(pair.differing),
        )
    console.print(table)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
