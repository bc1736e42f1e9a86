"""The run that the page opens with: the best one, its main numbers, samples and losses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from unite.figures.chart import Panel
from unite.metrics.specs import direction, judges, number, spec_of
from unite.reporting.catalogue import Catalogue, Cell, Entry, Metric, metric_of
from unite.reporting.collect import ReportRun
from unite.reporting.pictures import Thumbnail
from unite.reporting.summary import Column, Summary, title_of
from unite.words import count

FAMILIES = ("generation", "reconstruction")
"""Families whose metrics may rank runs, the first one first."""
MOST_NUMBERS = 6


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The best run of an experiment."""

    run: int
    """Index of the run."""
    reason: str
    """Rule by which it is the best."""
    numbers: tuple[tuple[Column, Cell], ...]
    samples: Thumbnail | None
    """Last sample grid of the run; None without one."""
    losses: Panel | None


def headline(
    runs: Sequence[ReportRun], catalogue: Catalogue, summary: Summary, dynamics: Sequence[Panel]
) -> Headline | None:
    """The best training run, or trial where there is no other run; None without any run.

    Runs are ranked by one metric among numbers of one protocol only: that of most runs. Without
    evaluations the metric of the training ranks them, and without that the newest run stands.
    """
    chosen = [i for i, run in enumerate(runs) if not run.trials] or list(range(len(runs)))
    if not chosen:
        return None
    found = _by_card(chosen, catalogue) or _by_logged(chosen, runs)
    best, reason = found or (chosen[0], "the newest run; none has been evaluated")
    pairs = zip(summary.columns, summary.rows[best], strict=True)
    return Headline(
        run=best,
        reason=reason,
        numbers=tuple(pair for pair in pairs if pair[1].text)[:MOST_NUMBERS],
        samples=list(runs[best].samples.values())[-1] if runs[best].samples else None,
        losses=next((panel for panel in dynamics if panel.run == best), None),
    )


def _by_card(chosen: Sequence[int], catalogue: Catalogue) -> tuple[int, str] | None:
    newest = [entry for entry in catalogue.entries if entry.newest and entry.run in chosen]
    for row in (row for family in FAMILIES for row in judges(family)):
        fitting = [e for e in newest if spec_of(e.card.metric, e.card.suite) is row]
        if not fitting:
            continue
        metric = Counter(metric_of(entry.card) for entry in fitting).most_common(1)[0][0]
        of_metric = [entry for entry in fitting if metric_of(entry.card) == metric]
        alike = _alike(of_metric)
        return _best(alike).run, _rule(metric, len(alike), len(of_metric))
    return None


def _alike(entries: Sequence[Entry]) -> list[Entry]:
    """The numbers of the protocol that most of them have."""
    counts = Counter(entry.letter for entry in entries)
    commonest = min(counts, key=lambda letter: (-counts[letter], len(letter), letter))
    return [entry for entry in entries if entry.letter == commonest]


def _best(entries: Sequence[Entry]) -> Entry:
    sign = 1 if direction(entries[0].card.metric) == "lower" else -1
    return min(entries, key=lambda entry: sign * entry.card.value)


def _rule(metric: Metric, alike: int, measured: int) -> str:
    name = title_of(metric)
    if measured == 1:
        return f"the only run with {name}"
    rule = f"{'lowest' if direction(metric[1]) == 'lower' else 'highest'} {name}"
    if alike == measured:
        return f"{rule} of {measured} runs"
    others = f"{count(measured - alike, 'more run')} by other protocols"
    if alike == 1:
        return f"{name} of one protocol; {others}"
    return f"{rule} of the {alike} runs measured alike; {others}"


def _by_logged(chosen: Sequence[int], runs: Sequence[ReportRun]) -> tuple[int, str] | None:
    for row in (row for family in FAMILIES for row in judges(family) if row.logged_name):
        values = {index: runs[index].logged(row.logged_name) for index in chosen}
        logged = {index: value for index, value in values.items() if value is not None}
        if logged:
            choose, rank = (max, "highest") if row.better == "higher" else (min, "lowest")
            best = choose(logged, key=lambda index: logged[index])
            value = f"{number(logged[best], row.digits)} {row.unit}".strip()
            return best, f"{rank} {row.name} in training, {value}; no run has been evaluated"
    return None
