"""Content of the page, computed from the collected experiment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unite.config.axes import AXES
from unite.figures.chart import Bars, Figure, Panel
from unite.reporting import charts
from unite.reporting.catalogue import Catalogue
from unite.reporting.collect import Collected, ReportRun
from unite.reporting.headline import Headline, headline
from unite.reporting.summary import Summary, summarise
from unite.reporting.sweeps import SweepView, view_sweep
from unite.reporting.tables import PaperTable, paper_tables
from unite.tracking import RunInfo
from unite.tracking.runs import PARENT_TAG

NO_SWEEP = "no sweep"


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem: something is missing on the page, or incomplete."""

    name: str
    """Name of the run or sweep."""
    words: str
    run: int | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Runs that stand together in the table of runs."""

    title: str
    """Name of the sweep; empty for the training runs that belong to none."""
    runs: Sequence[int]
    """Indices of runs, newest first."""


@dataclass(frozen=True, kw_only=True)
class View:
    """The page's contents, section by section."""

    data: Collected
    catalogue: Catalogue
    headline: Headline | None
    summary: Summary
    groups: Sequence[RunGroup]
    """Rows of the table: training runs first, then the trials of each sweep."""
    dynamics: Sequence[Panel]
    sweeps: Sequence[SweepView]
    tables: Sequence[PaperTable]
    alignment: Sequence[Figure]
    trajectory: Sequence[Figure]
    entropy: Sequence[Bars]
    problems: Sequence[Problem]


def view(data: Collected) -> View:
    """Content of the page for an experiment."""
    catalogue = Catalogue.of(data.runs)
    known = [parent for parent in data.sweeps if parent.tags.get("axis") in AXES]
    unknown = [parent for parent in data.sweeps if parent not in known]
    sweeps = [view_sweep(parent, data, catalogue) for parent in known]
    summary, dynamics = summarise(data.runs, catalogue), charts.dynamics(data.runs)
    return View(
        data=data,
        catalogue=catalogue,
        headline=headline(data.runs, catalogue, summary, dynamics),
        summary=summary,
        groups=run_groups(data),
        dynamics=dynamics,
        sweeps=sweeps,
        tables=paper_tables(data.runs, catalogue, sweeps),
        alignment=charts.alignment(data.runs, catalogue),
        trajectory=charts.trajectory(data.runs, catalogue),
        entropy=charts.entropy(data.runs, catalogue),
        problems=[*_of_unknown(unknown), *_of_sweeps(sweeps), *_of_runs(data)],
    )


def run_groups(data: Collected) -> list[RunGroup]:
    """Training runs, then the trials of each sweep; a trial of several stands with the newest."""
    names = {sweep.run_id: sweep.name for sweep in data.sweeps}
    groups: dict[str, list[int]] = {"": []} | {run_id: [] for run_id in names}
    for index, run in enumerate(data.runs):
        parents = [info.tags.get(PARENT_TAG, "") for info in run.trials]
        known = next((parent for parent in parents if parent in names), NO_SWEEP)
        groups.setdefault(known if run.trials else "", []).append(index)
    titles = names | {"": "", NO_SWEEP: "trials whose sweep is not there"}
    return [RunGroup(title=titles[key], runs=runs) for key, runs in groups.items() if runs]


def _of_unknown(parents: Sequence[RunInfo]) -> list[Problem]:
    return [
        Problem(
            name=parent.name,
            words=f"a sweep over '{parent.tags.get('axis', '')}', unknown to this version: "
            f"left out. Known are {', '.join(AXES)}",
        )
        for parent in parents
    ]


def _of_sweeps(sweeps: Sequence[SweepView]) -> list[Problem]:
    return [Problem(name=each.name, words=words) for each in sweeps for words in each.problems]


def _of_runs(data: Collected) -> list[Problem]:
    return [
        Problem(name=run.name, words=words, run=index)
        for index, run in enumerate(data.runs)
        for words in (*run.problems, *_left_out(run))
    ]


def _left_out(run: ReportRun) -> list[str]:
    shown, there = len(run.samples), run.num_samples
    return [f"{shown} of its {there} sample grids are shown"] if shown < there else []
