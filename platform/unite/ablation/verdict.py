"""Verdicts: points over seeds, compared with the paper's findings.

The rule: a claim compares the means of two points. A difference beyond its 95% confidence interval
(`intervals.py`), from sample standard deviations over seeds, agrees or disagrees with the paper; a
smaller one decides nothing. One seed has no spread, so it decides nothing either, and numbers whose
cards differ were measured differently, so their difference decides nothing.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from unite.ablation.alike import NAMED, unlike
from unite.ablation.intervals import of_two_means
from unite.ablation.results import Result, result_file
from unite.ablation.roles import LATENT_STD, judged_by, like, shown_names
from unite.ablation.trials import Trial
from unite.config.axes import Axis, Cell, Claim, Point, Role
from unite.metrics.specs import better_words, higher_is_better, shown_name, spec_of
from unite.paper import TABLES
from unite.training.monitors import has_learned
from unite.words import count

RULE = (
    "Rule: means over seeds differ beyond the 95% confidence interval of their difference (Welch's "
    "t, standard error sqrt(s1^2/n1 + s2^2/n2)); otherwise, or with one seed, nothing is decided."
)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A finished trial."""

    trial: Trial
    result: Result
    run: str
    """Folder of its run."""
    run_id: str = ""
    """Id of its run in MLflow."""
    link: str = ""
    """Web address of that run."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A metric at one point, over seeds."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values)

    @property
    def std(self) -> float | None:
        """Sample standard deviation over seeds; None for one seed."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        spread = "" if self.std is None else f" +- {self.std:.2g}"
        return f"{self.mean:.4g}{spread} (n = {len(self.values)})"


def estimate(measured: Iterable[Measured], point: Point, metric: str) -> Estimate | None:
    """A metric at a point; None where no trial has it."""
    values = tuple(
        each.result.metrics[metric]
        for each in measured
        if each.trial.point == point and metric in each.result.metrics
    )
    return Estimate(values=values) if values else None


def metrics_of(role: Role, measured: Sequence[Measured]) -> list[str]:
    """Metrics by which a role is judged, measured in the place of the paper's."""
    return judged_by(role, _names(measured), _kind(measured))


def shown_metrics(axis: Axis, measured: Sequence[Measured]) -> list[str]:
    """Metrics with a panel in figure and report."""
    return shown_names(_names(measured), trains=axis.trains, kind=_kind(measured))


def has_distances(measured: Measured) -> bool:
    """True if a trial's samples were measured, as a collapsed model's cannot be."""
    return any(name.startswith("eval/generation/") for name in measured.result.metrics)


def _names(measured: Iterable[Measured]) -> list[str]:
    return list(dict.fromkeys(name for each in measured for name in each.result.metrics))


def _kind(measured: Sequence[Measured]) -> str:
    return measured[0].trial.config.domain.kind if measured else ""


def paper_cells(axis: Axis) -> dict[str, Mapping[Point, Cell]]:
    """The paper's figures at the points of an axis, by name: gFID, rFID, and IS beside a gFID."""
    samples = axis.paper.get("generation", {})
    scores = {
        point: cell._replace(metric="is")
        for point, cell in samples.items()
        if "is" in TABLES[cell.table].rows[cell.row]
    }
    found = {"gFID": samples, "rFID": axis.paper.get("reconstruction", {}), "IS": scores}
    return {name: cells for name, cells in found.items() if cells}


def counterparts(axis: Axis, measured: Sequence[Measured]) -> dict[str, Mapping[Point, Cell]]:
    """Our metric -> the paper's figures for the same kind of number, on the first extractor.

    PSNR has none, though claims on rFID are judged by it where nothing else is measured.
    """
    names = _names(measured)
    pairs = ((like(name, names), cells) for name, cells in paper_cells(axis).items())
    return {ours[0]: cells for ours, cells in pairs if ours}


def paper_name(cell: Cell) -> str:
    """Name of a figure's metric in the paper: gFID, rFID, IS."""
    row = spec_of(cell.metric)
    return row.paper if row else cell.metric


def paper_value(cell: Cell) -> float:
    """A figure of the paper."""
    return TABLES[cell.table].rows[cell.row][cell.metric]


def verdict(axis: Axis, measured: Sequence[Measured]) -> list[str]:
    """Lines of plain text: each claim, our best point, collapsed latents, missing metrics, and
    trials that were not measured alike."""
    lines = [
        _judge(axis, claim, measured, metric)
        for claim in axis.claims
        for metric in metrics_of(claim.role, measured)
    ]
    lines += _best(axis, measured)
    lines += _collapsed(axis, measured)
    lines += _not_alike(axis, measured)
    if axis.remark:
        lines.append(axis.remark)
    return [*lines, RULE]


def name_of(axis: Axis, point: Point) -> str:
    """A point in words: its value, and its arm."""
    arm, value = point
    words = f"{axis.label.split(',')[0]} = {value}" if axis.is_numeric else value
    return f"{words}, {arm}" if arm else words


def findings(axis: Axis) -> list[str]:
    """Findings of the paper on an axis, a line per claim: the better point, and the worse one."""
    return [finding(axis, claim) for claim in axis.claims]


def finding(axis: Axis, claim: Claim) -> str:
    """One claim with its figures, such as gFID 2.71 (sigma = 0.7) against 6.58 (...)."""
    cells = axis.paper[claim.role]
    name = paper_name(cells[claim.better])
    better, worse = (
        f"{paper_value(cells[point]):g} ({name_of(axis, point)})"
        for point in (claim.better, claim.worse)
    )
    return f"{name} {better} against {worse}: {_sources(axis, claim)}"


def _sources(axis: Axis, claim: Claim) -> str:
    return sources(axis.paper[claim.role][point].table for point in (claim.better, claim.worse))


def sources(tables: Iterable[str]) -> str:
    """Places of tables in the paper, each once; one that another names as well is left out."""
    found = dict.fromkeys(TABLES[table].source for table in tables)
    return "; ".join(
        one for one in found if not any(one in other for other in found if other != one)
    )


def _judge(axis: Axis, claim: Claim, measured: Sequence[Measured], metric: str) -> str:
    short = _name(metric)
    better, worse = (estimate(measured, point, metric) for point in (claim.better, claim.worse))
    first, second = name_of(axis, claim.better), name_of(axis, claim.worse)
    paper = _paper_words(axis, claim)
    if better is None or worse is None:
        missing = first if better is None else second
        return f"NOT MEASURED: {short} at {missing}. {paper}"
    sign = -1.0 if higher_is_better(metric) else 1.0
    points = (claim.better, claim.worse)
    differing = unlike(axis, (each for each in measured if each.trial.point in points), metric)
    word = decide(better, worse, sign)
    if differing:
        word = f"UNDECIDED (not all measured alike: {next(iter(differing))})"
    return f"{word}: {short} is {better} at {first}, and {worse} at {second}. {paper}"


def decide(better: Estimate, worse: Estimate, sign: float) -> str:
    """AGREES, DISAGREES or UNDECIDED by the rule; `sign` is 1 where lower values are better."""
    gain = sign * (worse.mean - better.mean)
    if better.std is None or worse.std is None:
        direction = "the paper's" if gain > 0 else "the opposite of the paper's"
        return f"UNDECIDED (one seed; the direction is {direction})"
    error, reach = of_two_means(better.values, worse.values)
    if abs(gain) <= reach:
        return (
            f"UNDECIDED (a difference of {abs(gain):.2g}, its standard error is {error:.2g}: "
            f"beyond {reach:.2g} it would decide)"
        )
    return "AGREES with the paper" if gain > 0 else "DISAGREES with the paper"


def _paper_words(axis: Axis, claim: Claim) -> str:
    cells = axis.paper[claim.role]
    name = paper_name(cells[claim.better])
    better, worse = (f"{paper_value(cells[point]):g}" for point in (claim.better, claim.worse))
    which = better_words(name)
    return f"Paper ({_sources(axis, claim)}): {name} {better} against {worse}, {which}."


def _best(axis: Axis, measured: Sequence[Measured]) -> list[str]:
    """Our best point by each metric that a role is judged by, and the paper's."""
    roles: tuple[Role, ...] = ("generation", "reconstruction") if axis.trains else ("generation",)
    lines: list[str] = []
    for role in roles:
        for metric in metrics_of(role, measured):
            lines += _best_by(axis, measured, role, metric)
    return lines


def _best_by(axis: Axis, measured: Sequence[Measured], role: Role, metric: str) -> list[str]:
    points = dict.fromkeys(each.trial.point for each in measured)
    found = {point: estimate(measured, point, metric) for point in points}
    means = {point: each.mean for point, each in found.items() if each is not None}
    if not means:
        return []
    choose = max if higher_is_better(metric) else min
    ours = choose(means, key=means.__getitem__)
    line = f"Best {_name(metric)}: {found[ours]} at {name_of(axis, ours)}."
    cells = axis.paper.get(role, {})
    if cells:
        best_of = max if higher_is_better(next(iter(cells.values())).metric) else min
        theirs = best_of(cells, key=lambda point: paper_value(cells[point]))
        best = f"{paper_name(cells[theirs])} {paper_value(cells[theirs]):g}"
        line += f" The paper's: {best} at {name_of(axis, theirs)}."
    return [line]


def _name(metric: str) -> str:
    """A metric's own name, with its direction where higher is better."""
    short = shown_name(metric.rsplit("/", 1)[-1])
    return f"{short} (higher is better)" if higher_is_better(metric) else short


def _collapsed(axis: Axis, measured: Iterable[Measured]) -> list[str]:
    return [
        f"COLLAPSED: latent/std is {std:.3g} at {name_of(axis, each.trial.point)}, seed "
        f"{each.trial.seed}; its other figures mean little."
        for each in measured
        if (std := each.result.metrics.get(LATENT_STD, 1.0))
        < (training := each.trial.config.training).collapse_std
        and has_learned(each.result.images, training.batch_size)
    ]


def _not_alike(axis: Axis, measured: Sequence[Measured]) -> list[str]:
    """A line for each kind of measurement that few trials have, however many metrics show it."""
    found: dict[str, dict[str, Measured]] = {}
    for metric in shown_metrics(axis, measured):
        for words, trials in unlike(axis, measured, metric).items():
            found.setdefault(words, {}).update({each.trial.measurement: each for each in trials})
    return [
        f"NOT ALIKE: {count(len(trials), 'trial')} measured otherwise than the others ({words}), "
        "so means, figure and best point mix what cannot be compared. Without "
        f"{_results_of(trials.values())} the same command measures again."
        for words, trials in found.items()
    ]


def _results_of(measured: Iterable[Measured]) -> str:
    files = [f"{each.run}/{result_file(each.trial)}" for each in measured]
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more
