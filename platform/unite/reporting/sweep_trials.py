"""A sweep's trials in MLflow: the planned ones, their numbers, and those that are missing.

A sweep's trials are the children of its run whose digest is in the list of trials that it stored
when it started. Whatever else lies below it was trained or measured under other settings: it is
never averaged with them, and said to be left out.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import dataclass

from unite import tracking
from unite.ablation.results import MEASURED_TAG, Result
from unite.ablation.trials import Protocol, Trial
from unite.ablation.verdict import Measured
from unite.config import schema
from unite.config.axes import Axis, Point
from unite.config.schema import RunConfig
from unite.config.serialise import replace
from unite.evaluation.card import MetricCard
from unite.reporting.catalogue import Catalogue, Entry
from unite.reporting.collect import Collected, ReportRun
from unite.reporting.evaluations import UNREADABLE, first_line
from unite.runs import TRIAL_FOLDER
from unite.storage import Store
from unite.tracking.runs import PARENT_TAG

PREFIX = "eval/"
NAMED = 3
"""Largest number of trials that are named where some are left out."""


@dataclass(frozen=True, kw_only=True)
class SweepTrial:
    """A finished trial."""

    measured: Measured
    run: int
    """Index of its run."""
    entries: Mapping[str, Entry]
    """Logged name -> its number that has a card."""


@dataclass(frozen=True, kw_only=True)
class SweepTrials:
    """Trials of a sweep: finished, missing and left out."""

    finished: tuple[SweepTrial, ...]
    recipes: tuple[str, ...]
    missing: tuple[str, ...]
    """Trials without a result, with the reasons."""
    problems: tuple[str, ...]
    """Trials that are left out, with the reasons."""


@dataclass(frozen=True, kw_only=True)
class _Child:
    """A run below a sweep's in MLflow."""

    index: int
    """Index of the run that it belongs to."""
    info: tracking.RunInfo

    @property
    def digest(self) -> str:
        """Identity of the trial."""
        return self.info.tags.get("digest", "")

    @property
    def is_measured(self) -> bool:
        """True if its results are there."""
        return MEASURED_TAG in self.info.tags


def read_trials(
    axis: Axis, parent: tracking.RunInfo, data: Collected, catalogue: Catalogue
) -> SweepTrials:
    """The trials of a sweep, in the order of its axis and seeds."""
    children = [
        _Child(index=index, info=info)
        for index, run in enumerate(data.runs)
        for info in run.infos
        # A training that serves several trials is beside them and none itself.
        if info.tags.get(PARENT_TAG) == parent.run_id and "training" not in info.tags
    ]
    planned, problem = _planned(parent, data.uri)
    own, problems = _own(axis, planned, children)
    finished = [
        _trial(each.info, each.index, data.runs[each.index], catalogue)
        for each in own.values()
        if each.is_measured
    ]
    order = all_points(axis)
    finished.sort(key=lambda t: (order.index(t.measured.trial.point), t.measured.trial.seed))
    recipes = dict.fromkeys(each.info.tags.get("recipe", "") for each in own.values())
    return SweepTrials(
        finished=tuple(finished),
        recipes=tuple(filter(None, recipes)),
        missing=tuple(_missing(planned, own, data)),
        problems=tuple([*filter(None, [problem]), *problems]),
    )


def all_points(axis: Axis) -> list[Point]:
    """Points of an axis, in the order of its arms and values."""
    return [(arm.name, value) for arm in axis.arms for value in axis.fields]


def _own(
    axis: Axis, planned: Mapping[str, str], children: list[_Child]
) -> tuple[dict[str, _Child], list[str]]:
    """The sweep's children by digest, one each, and problems of the others."""
    arms = {arm.name for arm in axis.arms}
    own: dict[str, _Child] = {}
    foreign, unknown, again = [], [], []
    for child in sorted(children, key=lambda each: not each.is_measured):
        tags = child.info.tags
        if child.digest not in planned:
            foreign.append(child.info.name)
        elif tags.get("value") not in axis.fields or tags.get("arm", "") not in arms:
            unknown.append(child.info.name)
        elif child.digest in own:
            again.append(child.info.name)
        else:
            own[child.digest] = child
    reasons = {
        "not in its plan (other epochs, data or samples, or an older recipe)": foreign,
        f"at a value or an arm that axis {axis.name} of this version does not have": unknown,
        "in MLflow twice, of which one counts": again,
    }
    return own, [
        f"{len(names)} trial{'' if len(names) == 1 else 's'} {reason}, left out: {_few(names)}"
        for reason, names in reasons.items()
        if names
    ]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return "; ".join(names[:NAMED]) + more


def _trial(info: tracking.RunInfo, index: int, run: ReportRun, catalogue: Catalogue) -> SweepTrial:
    metrics = {
        name: value
        for name, value in info.metrics.items()
        if name.startswith(PREFIX) and name.count("/") == 2
    }
    judging = {"training.collapse_std": float, "training.batch_size": int}
    known = {name: kind(info.params[name]) for name, kind in judging.items() if name in info.params}
    config = replace(RunConfig(domain=_domain(info)), known)
    kept, _ = _kept(run, info)
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
        cards=dict(kept.get("cards", {})),
    )
    entries = {
        name: entry
        for name in metrics
        if (entry := _entry(catalogue, index, name, result)) is not None
    }
    measured = Measured(trial=trial, result=result, run=run.folder, run_id=info.run_id)
    return SweepTrial(measured=measured, run=index, entries=entries)


def _domain(info: tracking.RunInfo) -> schema.DomainConfig:
    """Domain of a trial by its kind, which decides what judges it; runs of old are of images."""
    kinds = {each.kind: each for each in typing.get_args(schema.DomainConfig)}
    return kinds.get(info.params.get("domain.kind", ""), schema.ImagesConfig)()


def _entry(catalogue: Catalogue, run: int, name: str, result: Result) -> Entry | None:
    """The number behind a logged one: by the card that its result keeps."""
    if name in result.cards:
        return catalogue.of_card(run, MetricCard.from_dict(result.cards[name]))
    suite, metric = name.removeprefix(PREFIX).split("/")
    return catalogue.of_value(run, (suite, metric), result.metrics[name])


def _kept(run: ReportRun, info: tracking.RunInfo) -> tuple[dict, str]:
    """Stored result of a trial in the run's folder, and problems with it."""
    tags = info.tags
    # Its results are marked with the measurement; without results, any of the trial's would do.
    start = tags.get(MEASURED_TAG, "").partition(" ")[0] or tags.get("digest", "")
    if not run.reachable or not start:
        return {}, ""
    folder = Store(run.folder)
    for name in folder.list(TRIAL_FOLDER):
        if name.startswith(start):
            try:
                return dict(folder.read_json(f"{TRIAL_FOLDER}/{name}")), ""
            except UNREADABLE as error:
                return {}, f"its result {TRIAL_FOLDER}/{name} is half written ({first_line(error)})"
    return {}, ""


def _missing(planned: Mapping[str, str], own: Mapping[str, _Child], data: Collected) -> list[str]:
    """A line for each trial without a result."""
    lines = []
    for digest, label in planned.items():
        child = own.get(digest)
        if child is None:
            lines.append(f"{label}: not started")
        elif not child.is_measured:
            run = data.runs[child.index]
            _, broken = _kept(run, child.info)
            why = broken or run.unfinished or f"{child.info.status.lower()}, not measured"
            lines.append(f"{label}: {why}")
    return lines


def _planned(parent: tracking.RunInfo, uri: str) -> tuple[dict[str, str], str]:
    """Digest -> trial in words, as the sweep stored them; and the reason if that fails."""
    try:
        files = tracking.RunFiles.open(tracking.RunHandle(uri, parent.run_id))
        return dict(json.loads(files.read("config.json"))["trials"]), ""
    except UNREADABLE as error:
        why = first_line(error)
        return {}, f"its list of trials cannot be read, so none of them is shown ({why})"
