"""Ablations as MLflow has them: trials, their means over seeds, figure and verdict.

Trials with differing cards are judged apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unite import tracking
from unite.ablation.alike import varied_fields
from unite.ablation.figure import metric_name, sweep_figure
from unite.ablation.verdict import (
    RULE,
    Estimate,
    counterparts,
    estimate,
    has_distances,
    name_of,
    paper_name,
    paper_value,
    shown_metrics,
    verdict,
)
from unite.config.axes import AXES, Axis, Cell, Point
from unite.figures.chart import Figure
from unite.metrics.specs import number
from unite.reporting.catalogue import Catalogue, Entry, differing, in_words, letter
from unite.reporting.collect import Collected
from unite.reporting.sweep_trials import PREFIX, SweepTrial, all_points, read_trials


@dataclass(frozen=True, kw_only=True)
class Group:
    """Trials whose cards agree."""

    protocol: dict[str, object]
    trials: list[SweepTrial]


@dataclass(frozen=True, kw_only=True)
class Value:
    """A metric at a point, over seeds."""

    estimate: Estimate | None = None
    entries: tuple[Entry, ...] = ()
    paper: str = ""
    """The paper's figure for it."""

    @property
    def text(self) -> str:
        """The mean, to the last digit that the spread leaves any meaning."""
        if self.estimate is None:
            return ""
        decimals = self._decimals
        mean = self.estimate.mean
        return number(mean) if decimals is None else f"{mean:,.{decimals}f}"

    @property
    def spread(self) -> str:
        """Standard deviation to two digits; empty for one seed."""
        decimals = self._decimals
        std = self.estimate.std if self.estimate else None
        return "" if std is None else f"{std:.2g}" if decimals is None else f"{std:.{decimals}f}"

    @property
    def _decimals(self) -> int | None:
        """Places after the point of a mean over seeds that differ."""
        std = self.estimate.std if self.estimate else None
        return max(0, 1 - math.floor(math.log10(std))) if std else None


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Trials that were measured alike."""

    figure: Figure
    metrics: Sequence[str]
    """Column heads of the table."""
    points: Sequence[tuple[str, Sequence[Value]]]
    """Rows: a point in words, and its values."""
    verdict: Sequence[tuple[str, str]]
    """(word, sentence); the word is empty where nothing is judged."""
    warning: str = ""
    remarks: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class SweepView:
    """A sweep on the page."""

    axis: Axis
    name: str
    facts: str
    cohorts: Sequence[Cohort]
    missing: Sequence[str]
    """Trials without a result, with the reasons."""
    problems: Sequence[str]
    """Trials that are left out, with the reasons."""


def view_sweep(parent: tracking.RunInfo, data: Collected, catalogue: Catalogue) -> SweepView:
    """A sweep's trials, judged."""
    axis = AXES[parent.tags["axis"]]
    trials = read_trials(axis, parent, data, catalogue)
    groups = _cohorts(axis, trials.finished)
    facts = [f"recipe {', '.join(trials.recipes)}" if trials.recipes else ""]
    facts += [f"scale {parent.tags.get('scale', '?')}, equal {parent.tags.get('equal', '?')}"]
    return SweepView(
        axis=axis,
        name=parent.name,
        facts="; ".join(filter(None, facts)),
        cohorts=[_cohort(axis, group, groups) for group in groups],
        missing=trials.missing,
        problems=trials.problems,
    )


def _cohorts(axis: Axis, trials: Sequence[SweepTrial]) -> list[Group]:
    """Groups of trials whose cards agree, the largest first.

    A collapsed trial has no distances, and may have no card at all: it is counted with the rest.
    """
    groups: list[Group] = []
    collapsed = [each for each in trials if not each.entries and not has_distances(each.measured)]
    for trial in trials:
        if trial in collapsed:
            continue
        protocol = _protocol(axis, trial)
        group = next((g for g in groups if _agree(g.protocol, protocol)), None)
        if group is None:
            groups.append(group := Group(protocol={}, trials=[]))
        group.protocol.update(protocol)
        group.trials.append(trial)
    groups.sort(key=lambda each: -len(each.trials))
    if collapsed and not groups:
        groups = [Group(protocol={}, trials=[])]
    if collapsed:
        groups[0].trials.extend(collapsed)
    return groups


def _agree(known: Mapping[str, object], other: Mapping[str, object]) -> bool:
    """True if two protocols agree in their common fields; an empty one agrees with empty ones."""
    common = set(known) & set(other)
    return bool(known) == bool(other) and all(known[name] == other[name] for name in common)


def _protocol(axis: Axis, trial: SweepTrial) -> dict[str, object]:
    """Protocol fields of a trial's cards, without those that the axis varies."""
    varied = varied_fields(axis)
    fields: dict[str, object] = {}
    for name, entry in sorted(trial.entries.items()):
        metric = name.removeprefix(PREFIX)
        fields |= {
            f"{metric}: {field}": value
            for field, value in entry.card.protocol().items()
            if field not in varied
        }
    return fields


def _cohort(axis: Axis, group: Group, groups: Sequence[Group]) -> Cohort:
    measured = [each.measured for each in group.trials]
    metrics = shown_metrics(axis, measured)
    present = {each.trial.point for each in measured}
    paper = counterparts(axis, measured)
    points = [
        (
            name_of(axis, point),
            [
                _value(group.trials, point, metric, paper.get(metric, {}).get(point))
                for metric in metrics
            ],
        )
        for point in all_points(axis)
        if point in present
    ]
    return Cohort(
        figure=sweep_figure(axis, measured),
        metrics=[metric_name(metric) for metric in metrics],
        points=points,
        verdict=[_split(line) for line in verdict(axis, measured) if line != RULE],
        warning=_warning(group, groups),
        remarks=list(dict.fromkeys(r for each in measured for r in each.result.remarks)),
    )


def _warning(group: Group, groups: Sequence[Group]) -> str:
    unknown = "no card of these trials is in reach, so nobody can say how they were measured"
    if len(groups) == 1:
        return "" if group.protocol else unknown
    letters = [letter(index) for index in range(len(groups))]
    known = [(a, each) for a, each in zip(letters, groups, strict=True) if each.protocol]
    fields = differing([_common(each.protocol, groups) for _, each in known])
    # The same field differs for several metrics alike: it is said once.
    short = {name.split(": ", 1)[-1]: values for name, values in fields.items()}
    mine = letters[groups.index(group)]
    words = in_words(short, [a for a, _ in known]) if group.protocol else unknown
    return (
        f"Protocol {mine}, {len(group.trials)} of the trials. They were not all measured alike and "
        f"are judged apart: {words}"
    )


def _common(protocol: Mapping[str, object], groups: Sequence[Group]) -> dict[str, object]:
    """The part of a protocol whose fields all groups with cards have."""
    return {k: v for k, v in protocol.items() if all(k in g.protocol for g in groups if g.protocol)}


def _value(trials: Sequence[SweepTrial], point: Point, metric: str, cell: Cell | None) -> Value:
    at_point = [each for each in trials if each.measured.trial.point == point]
    return Value(
        estimate=estimate([each.measured for each in at_point], point, metric),
        entries=tuple(each.entries[metric] for each in at_point if metric in each.entries),
        paper=_paper_words(cell) if cell else "",
    )


def _paper_words(cell: Cell) -> str:
    return f"{paper_name(cell)} {paper_value(cell):g}"


def _split(line: str) -> tuple[str, str]:
    """A line of the verdict as its word and the rest."""
    line = line.replace(" +- ", " \N{PLUS-MINUS SIGN} ")
    words = ("AGREES", "DISAGREES", "UNDECIDED", "NOT MEASURED", "COLLAPSED")
    word = next((each for each in words if line.startswith(each)), "")
    return word, line.removeprefix(word).lstrip(": ") if word else line
