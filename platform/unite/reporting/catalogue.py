"""Catalogue of the page's numbers with their cards, and of the comparable ones.

Numbers of one metric whose cards agree share a letter: A is the protocol that most runs have. The
page sorts, draws and averages within a letter only, and says beside different ones in which fields
they differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from unite.evaluation.card import MetricCard
from unite.evaluation.results import Row
from unite.metrics.specs import shown_value
from unite.reporting.collect import ReportRun

Metric = tuple[str, str]
"""Metric: (suite, name)."""
Protocol = Mapping[str, Any]
LONGEST_VALUE = 60
SHOWN_DIGITS = 12


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One number of one run."""

    id: int
    run: int
    """Index of its run."""
    row: Row
    newest: bool
    """True if it comes from its run's newest evaluation of that suite."""
    letter: str
    """Letter of its protocol among those of its metric: A, B, ..."""

    @property
    def card(self) -> MetricCard:
        """Name, value and protocol."""
        return self.row.card

    @property
    def text(self) -> str:
        """The value as it is shown."""
        return shown_value(self.row.card.metric, self.row.card.value)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One number of a table, or nothing."""

    text: str = ""
    value: float | None = None
    """Value that the table sorts by."""
    spread: str = ""
    """Standard deviation over seeds."""
    entries: Sequence[Entry] = ()
    """Entries of our number; none for the paper's and for what has no card."""
    letter: str = ""
    """Letter of its protocol, where a column holds several."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """All numbers of the page, and the protocols of each metric."""

    entries: tuple[Entry, ...]
    protocols: Mapping[Metric, Mapping[str, Protocol]]
    """Metric -> its protocols by letter, in their order."""

    @classmethod
    def of(cls, runs: Sequence[ReportRun]) -> Catalogue:
        """The numbers of all runs."""
        found = [
            (index, row, newest)
            for index, run in enumerate(runs)
            for row, newest in run.evaluations.rows
        ]
        protocols = _protocols((row.card, newest) for _, row, newest in found)
        entries = tuple(
            Entry(
                id=number,
                run=index,
                row=row,
                newest=newest,
                letter=_letter_of(row.card, protocols),
            )
            for number, (index, row, newest) in enumerate(found)
        )
        return cls(entries=entries, protocols=protocols)

    @cached_property
    def by_run(self) -> Mapping[int, Sequence[Entry]]:
        """Index of a run -> its numbers; no key for a run without any."""
        found: dict[int, list[Entry]] = {}
        for entry in self.entries:
            found.setdefault(entry.run, []).append(entry)
        return found

    def of_run(self, run: int) -> Sequence[Entry]:
        """A run's numbers."""
        return self.by_run.get(run, ())

    def of_suite(self, run: int, suite: str) -> list[Entry]:
        """A run's numbers in its newest evaluation by a suite."""
        return [e for e in self.of_run(run) if e.newest and e.card.suite == suite]

    def kinds(self, runs: Sequence[ReportRun]) -> set[str]:
        """Kinds of samples of all runs and of the parts of joint models; without runs images."""
        parts = (entry.card.suite.partition("-")[2] for entry in self.entries)
        return {*(run.kind for run in runs), *filter(None, parts)} or {"images"}

    def newest(self, run: int, metric: Metric) -> Entry | None:
        """A run's number in its newest evaluation."""
        return next((e for e in self.of_run(run) if e.newest and metric_of(e.card) == metric), None)

    def of_card(self, run: int, card: MetricCard) -> Entry | None:
        """A run's number that has this card."""
        return next((entry for entry in self.of_run(run) if entry.card == card), None)

    def of_value(self, run: int, metric: Metric, value: float) -> Entry | None:
        """A number of a trial whose result keeps no cards, as those of older versions: by value."""
        same = (e for e in self.of_run(run) if metric_of(e.card) == metric)
        return next((entry for entry in same if entry.card.value == value), None)

    def differing(self, metric: Metric, letters: Sequence[str]) -> dict[str, list[str]]:
        """Fields in which protocols of a metric differ: name -> values in the letters' order."""
        return differing([self.protocols[metric][each] for each in letters])


def metric_of(card: MetricCard) -> Metric:
    """Metric of a card: (suite, name)."""
    return card.suite, card.metric


def letter(index: int) -> str:
    """Letter of an index: A, B, ..., Z, AA, AB, ..."""
    head = letter(index // 26 - 1) if index >= 26 else ""
    return head + chr(ord("A") + index % 26)


def differing(protocols: Sequence[Protocol]) -> dict[str, list[str]]:
    """Fields in which protocols differ: dotted name -> the value in each, as shown."""
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    columns = {name: [protocol.get(name) for protocol in protocols] for name in names}
    return {
        name: [shown(value) for value in column]
        for name, column in columns.items()
        if any(value != column[0] for value in column[1:])
    }


def shown(value: Any) -> str:
    """Short text of a card's field."""
    if value in ("", None):
        return "none"
    if isinstance(value, float | int) and not isinstance(value, bool):
        return f"{value:,}" if isinstance(value, int) else f"{value:g}"
    text = str(value)
    if len(text) >= 2 * SHOWN_DIGITS and all(digit in "0123456789abcdef" for digit in text):
        return text[:SHOWN_DIGITS]
    return text if len(text) <= LONGEST_VALUE else text[: LONGEST_VALUE - 3] + "..."


def in_words(differences: Mapping[str, Sequence[str]], letters: Sequence[str]) -> str:
    """Differing fields as a sentence's end."""
    return "; ".join(
        f"{name} {', '.join(f'{v} ({a})' for v, a in zip(values, letters, strict=True))}"
        for name, values in differences.items()
    )


def _letter_of(card: MetricCard, protocols: Mapping[Metric, Mapping[str, Protocol]]) -> str:
    mine = card.protocol()
    return next(a for a, protocol in protocols[metric_of(card)].items() if protocol == mine)


def _protocols(cards: Iterable[tuple[MetricCard, bool]]) -> dict[Metric, dict[str, Protocol]]:
    """Protocols by metric and letter: those of the newest numbers first, then the commonest."""
    counts: dict[Metric, dict[str, tuple[int, int]]] = {}
    contents: dict[str, Protocol] = {}
    for card, newest in cards:
        digest = card.protocol_digest()
        contents[digest] = card.protocol()
        of_metric = counts.setdefault(metric_of(card), {})
        first, all_of_them = of_metric.get(digest, (0, 0))
        of_metric[digest] = (first + newest, all_of_them + 1)
    return {
        metric: {
            letter(place): contents[digest]
            for place, digest in enumerate(sorted(found, key=found.__getitem__, reverse=True))
        }
        for metric, found in counts.items()
    }
