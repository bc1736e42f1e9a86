"""Ablations as MLflow has them: trials, their means over seeds, figure and verdict.

A sweep's trials are the children of its run; what is missing is known from the list of trials that
the sweep stored when it started. Trials with differing cards are judged apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unite import tracking
from unite.ablation.results import FOLDER, Result
from unite.ablation.trials import Protocol, Trial
from unite.ablation.verdict import (
    LATENT_STD,
    PSNR,
    RULE,
    Estimate,
    Measured,
    distances,
    estimate,
    name_of,
    paper_value,
    verdict,
)
from unite.config.axes import AXES, Axis, Cell, Point, Role
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.reporting.catalogue import Catalogue, Entry, differing, in_words, letter
from unite.reporting.collect import PARENT_TAG, Collected, ReportRun
from unite.reporting.evaluations import UNREADABLE, first_line
from unite.reporting.figures import Figure
from unite.reporting.sweep_figures import metric_name, sweep_figure
from unite.storage import Store

MEASURED_TAG = "measured"
"""Set on a trial's run in MLflow with its results."""
PREFIX = "eval/"


@dataclass(frozen=True, kw_only=True)
class SweepTrial:
    """A finished trial."""

    measured: Measured
    run: int
    """Index of its run."""
    entries: Mapping[str, Entry]
    """Its numbers that have cards, by logged name."""


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
    """The paper's figure for it, and where it stands."""


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Trials that were measured alike."""

    figure: Figure
    metrics: Sequence[str]
    """Heads of the table's columns."""
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
    facts: str
    cohorts: Sequence[Cohort]
    missing: Sequence[str]
    """Trials without a result, and why."""


def view_sweep(parent: tracking.RunInfo, data: Collected, catalogue: Catalogue) -> SweepView | None:
    """A sweep's trials, judged; None for an axis that this version does not know."""
    axis = AXES.get(parent.tags.get("axis", ""))
    if axis is None:
        return None
    children = [
        (index, info)
        for index, run in enumerate(data.runs)
        for info in run.infos
        if info.tags.get(PARENT_TAG) == parent.run_id and info.tags.get("value") in axis.fields
    ]
    trials = [
        _trial(info, index, data.runs[index], catalogue)
        for index, info in children
        if info.tags.get(MEASURED_TAG)
    ]
    order = {point: n for n, point in enumerate(_points(axis))}
    trials.sort(
        key=lambda each: (order.get(each.measured.trial.point, 0), each.measured.trial.seed)
    )
    groups = _cohorts(axis, trials)
    recipes = dict.fromkeys(info.tags.get("recipe", "") for _, info in children)
    facts = [f"recipe {', '.join(filter(None, recipes))}" if any(recipes) else ""]
    facts += [f"scale {parent.tags.get('scale', '?')}, equal {parent.tags.get('equal', '?')}"]
    return SweepView(
        axis=axis,
        facts="; ".join(filter(None, facts)),
        cohorts=[_cohort(axis, group, groups) for group in groups],
        missing=_missing(parent, children, trials, data),
    )


def _points(axis: Axis) -> list[Point]:
    return [(arm.name, value) for arm in axis.arms for value in axis.fields]


def _trial(info: tracking.RunInfo, index: int, run: ReportRun, catalogue: Catalogue) -> SweepTrial:
    metrics = {
        name: value
        for name, value in info.metrics.items()
        if name.startswith(PREFIX) and name.count("/") == 2
    }
    collapse = info.params.get("training.collapse_std")
    config = replace(RunConfig(), {"training.collapse_std": float(collapse)} if collapse else {})
    kept, _ = _kept(run, info.tags.get("digest", ""))
    trial = Trial(
        value=info.tags["value"],
        arm=info.tags.get("arm", ""),
        seed=int(info.tags.get("seed", "0")),
        config=config,
        protocol=Protocol(sampling=config.sampling, num_samples=0, extractors=()),
    )
    result = Result(
        metrics=metrics,
        images=run.images,
        parameters=int(kept.get("parameters", 0)),
        flops=float(kept.get("flops", 0.0)),
        checkpoint=str(kept.get("checkpoint", "")),
        remarks=tuple(kept.get("remarks", ())),
    )
    entries = {}
    for name, value in metrics.items():
        suite, metric = name.removeprefix(PREFIX).split("/")
        if entry := catalogue.exact(index, (suite, metric), value):
            entries[name] = entry
    measured = Measured(trial=trial, result=result, run=run.folder, run_id=info.run_id)
    return SweepTrial(measured=measured, run=index, entries=entries)


def _kept(run: ReportRun, digest: str) -> tuple[dict, str]:
    """What the run's folder keeps of a trial, and what is wrong with it."""
    if not run.reachable or not digest:
        return {}, ""
    folder = Store(run.folder)
    for name in folder.list(FOLDER):
        if name.startswith(f"{digest}-"):
            try:
                return dict(folder.read_json(f"{FOLDER}/{name}")), ""
            except UNREADABLE as error:
                return {}, f"its result {FOLDER}/{name} is half written ({first_line(error)})"
    return {}, ""


def _cohorts(axis: Axis, trials: Sequence[SweepTrial]) -> list[Group]:
    """Trials by what their cards agree on, the largest group first.

    A collapsed trial has no distances, and may have no card at all: it is counted with the rest.
    """
    groups: list[Group] = []
    collapsed = [each for each in trials if not each.entries and not distances([each.measured])]
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
    """Whether two protocols say the same of what both speak of; silence agrees with silence."""
    common = set(known) & set(other)
    return bool(known) == bool(other) and all(known[name] == other[name] for name in common)


def _protocol(axis: Axis, trial: SweepTrial) -> dict[str, object]:
    """All that the cards of a trial say, but what the axis varies, by metric and field."""
    varied = {name.removeprefix("sampling.") for row in axis.fields.values() for name in row}
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
    metrics = [*distances(measured), *([PSNR, LATENT_STD] if axis.trains else [])]
    present = {each.trial.point for each in measured}
    roles: dict[str, Role] = {**dict.fromkeys(metrics[:1], "generation"), PSNR: "reconstruction"}
    points = [
        (
            name_of(axis, point),
            [_value(axis, group.trials, point, metric, roles.get(metric)) for metric in metrics],
        )
        for point in _points(axis)
        if point in present
    ]
    return Cohort(
        figure=sweep_figure(axis, measured, metrics),
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
    """The part of a protocol that all groups with cards speak of."""
    return {k: v for k, v in protocol.items() if all(k in g.protocol for g in groups if g.protocol)}


def _value(
    axis: Axis, trials: Sequence[SweepTrial], point: Point, metric: str, role: Role | None
) -> Value:
    at_point = [each for each in trials if each.measured.trial.point == point]
    cell = axis.paper.get(role, {}).get(point) if role else None
    return Value(
        estimate=estimate([each.measured for each in at_point], point, metric),
        entries=tuple(each.entries[metric] for each in at_point if metric in each.entries),
        paper=_paper_words(cell) if cell else "",
    )


def _paper_words(cell: Cell) -> str:
    return f"{cell.metric} {paper_value(cell):g}"


def _split(line: str) -> tuple[str, str]:
    """A line of the verdict as its word and the rest."""
    words = ("AGREES", "DISAGREES", "UNDECIDED", "NOT MEASURED", "COLLAPSED")
    word = next((each for each in words if line.startswith(each)), "")
    return word, line.removeprefix(word).lstrip(": ") if word else line


def _missing(
    parent: tracking.RunInfo,
    children: Sequence[tuple[int, tracking.RunInfo]],
    trials: Sequence[SweepTrial],
    data: Collected,
) -> list[str]:
    """A line for each trial without a result."""
    finished = {each.measured.run_id for each in trials}
    lines = []
    for index, info in children:
        if info.run_id not in finished:
            _, broken = _kept(data.runs[index], info.tags.get("digest", ""))
            why = broken or data.runs[index].unfinished or f"{info.status.lower()}, not measured"
            lines.append(f"{info.name}: {why}")
    seen = {info.tags.get("digest") for _, info in children}
    planned = _planned(parent, data.uri)
    lines += [f"{label}: not started" for digest, label in planned.items() if digest not in seen]
    return lines


def _planned(parent: tracking.RunInfo, uri: str) -> dict[str, str]:
    """Digest -> trial in words, as the sweep stored them; empty when that cannot be read."""
    try:
        files = tracking.RunFiles.open(tracking.RunHandle(uri, parent.run_id))
        return dict(json.loads(files.read("config.json")).get("trials", {}))
    except (*UNREADABLE, AttributeError):
        return {}
