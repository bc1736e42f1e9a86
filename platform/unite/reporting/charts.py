"""The paper's figures from the collected runs: Fig. 4 (dynamics), Fig. 6 (alignment), Fig. 7
(trajectory), and weight entropy against the start.

Runs whose measurements have differing cards never share a chart: each protocol has its own figure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from unite.figures.alignment import alignment_figure
from unite.figures.chart import Bars, Figure, Panel
from unite.figures.dynamics import LOSSES, losses
from unite.figures.entropy import GROUPS, bars
from unite.figures.looks import COLORS
from unite.figures.trajectory import TrajectoryCurve, trajectory_figure
from unite.reporting.catalogue import Catalogue, Metric, in_words, metric_of
from unite.reporting.collect import ReportRun
from unite.reporting.pictures import Thumbnail

STATES = {
    f"{part}{prefix}": f"{words}, {state}"
    for part, words in (("", "encoder"), ("denoiser_", "denoiser"))
    for prefix, state in (("random_", "at the start"), ("", "trained"))
}
"""Start of a metric's name -> state of a part of the model."""
Group = Mapping[str, tuple[int, ReportRun]]
"""Name in the legend -> a run with its index."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture of a run."""

    run: int
    caption: str
    picture: Thumbnail


def dynamics(runs: Sequence[ReportRun]) -> list[Panel]:
    """Fig. 4: reconstruction and flow loss of each run."""
    return [
        losses(run.curves, title=run.name, noun=run.noun, run=index)
        for index, run in enumerate(runs)
        if any(run.curves.get(name) for name in LOSSES)
    ]


def alignment(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Figure]:
    """Fig. 6: CKA, CKNNA and cosine by block, and the final latents' cosine by t."""
    return _by_protocol(runs, catalogue, "alignment", "cka_mean", _alignment)


def trajectory(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Figure]:
    """Fig. 7: quality of decoded predictions by t, and pictures of them."""
    return _by_protocol(runs, catalogue, "trajectory", "_z0", _trajectory)


def entropy(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Bars]:
    """Weight entropy of each run's encoder, as it started and as it is."""
    found = (_entropy(run, index, catalogue) for index, run in enumerate(runs))
    return [each for each in found if each.bars]


def _entropy(run: ReportRun, index: int, catalogue: Catalogue) -> Bars:
    entries = {entry.card.metric: entry for entry in catalogue.of_suite(index, "entropy")}
    states, totals = {}, {}
    for start, label in STATES.items():
        ours = {group: entries.get(f"{start}{group}_mb") for group in (*GROUPS, "total")}
        values = {group: entry.card.value for group, entry in ours.items() if entry}
        if values:
            states[label], totals[label] = values, ours["total"]
    bins = [entry.card.details.get("bins") for entry in entries.values()]
    note = f"{bins[0]} bins" if bins else ""
    return bars(run.name, states, note=note, run=index, sources=totals)


def _by_protocol(
    runs: Sequence[ReportRun],
    catalogue: Catalogue,
    suite: str,
    speaks: str,
    make: Callable[[Group], Figure],
) -> list[Figure]:
    """A figure for each protocol of a suite, of at most COLORS runs each.

    `speaks`: end of the name of the metric whose card speaks for the suite.
    """
    groups: dict[tuple[Metric, str], dict[str, tuple[int, ReportRun]]] = {}
    for index, run in enumerate(runs):
        entries = [e for e in catalogue.of_suite(index, suite) if e.card.metric.endswith(speaks)]
        for entry in entries[:1]:
            group = groups.setdefault((metric_of(entry.card), entry.letter), {})
            apart = (run.folder_name, run.info.run_id)
            names = [run.name, *(f"{run.name}, {each}" for each in apart)]
            group[next(name for name in names if name not in group)] = (index, run)
    figures = []
    for metric, letter in sorted(groups, key=lambda each: (len(each[1]), each)):
        members, letters = groups[metric, letter], [a for m, a in groups if m == metric]
        warning = _apart(catalogue, metric, letter, letters)
        names = list(members)
        for start in range(0, len(names), COLORS):
            part = {name: members[name] for name in names[start : start + COLORS]}
            figures.append(replace(make(part), warning=warning))
    return figures


def _apart(catalogue: Catalogue, metric: Metric, letter: str, letters: Sequence[str]) -> str:
    """Reason why the runs of one protocol have a figure of their own; empty for the only one."""
    if len(letters) == 1:
        return ""
    order = [each for each in catalogue.protocols[metric] if each in letters]
    words = in_words(catalogue.differing(metric, order), order)
    return f"Protocol {letter}; measured differently, so not in one chart: {words}"


def _alignment(group: Group) -> Figure:
    results = {name: run.alignment for name, (_, run) in group.items() if run.alignment is not None}
    if not results:
        caption = "The curves cannot be read: the list of what is not whole says why"
        return Figure(panels=(), caption=caption)
    return alignment_figure(results)


def _trajectory(group: Group) -> Figure:
    curves, pictures = {}, []
    for name, (index, run) in group.items():
        found = run.evaluations.newest("trajectory")
        if found is None:
            continue
        values = {row.card.metric: row.card.value for row in found.outcome.rows}
        levels = found.outcome.rows[0].card.details.get("levels", ())
        curves[name] = _curve(values, levels)
        if run.trajectory is not None:
            pictures.append(Shown(run=index, caption=_rows_of(levels), picture=run.trajectory))
    return replace(trajectory_figure(curves), pictures=pictures)


def _curve(values: Mapping[str, float], levels: Sequence[float]) -> TrajectoryCurve:
    """Curve of numbers that are named METRIC_t0.50 and METRIC_z0."""
    metric = next(iter(values)).rpartition("_")[0]
    found = {t: values[name] for t in levels if (name := f"{metric}_t{t:.2f}") in values}
    return TrajectoryCurve(
        metric=metric,
        levels=list(found),
        values=list(found.values()),
        clean=values.get(f"{metric}_z0"),
    )


def _rows_of(levels: Sequence[float]) -> str:
    names = ["input", *(f"prediction at t = {t:g}" for t in levels), "D(z0)"]
    return f"Rows: {', '.join(names)}"
