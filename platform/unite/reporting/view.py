"""Everything that the page shows, worked out from what was collected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unite.config.axes import AXES
from unite.reporting import charts
from unite.reporting.catalogue import Catalogue
from unite.reporting.collect import Collected, ReportRun
from unite.reporting.figures import Figure, Panel
from unite.reporting.summary import Summary, summarise
from unite.reporting.sweeps import SweepView, view_sweep
from unite.reporting.tables import PaperTable, paper_tables
from unite.tracking import RunInfo


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is not on the page, or not whole."""

    name: str
    """Of the run or sweep."""
    words: str
    run: int | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.words}"


@dataclass(frozen=True, kw_only=True)
class View:
    """The page's contents, section by section."""

    data: Collected
    catalogue: Catalogue
    summary: Summary
    dynamics: Sequence[Panel]
    sweeps: Sequence[SweepView]
    tables: Sequence[PaperTable]
    alignment: Sequence[Figure]
    trajectory: Sequence[Figure]
    entropy: Sequence[charts.Bars]
    problems: Sequence[Problem]


def view(data: Collected) -> View:
    """What there is to show of an experiment."""
    catalogue = Catalogue.of(data.runs)
    known = [parent for parent in data.sweeps if parent.tags.get("axis") in AXES]
    unknown = [parent for parent in data.sweeps if parent not in known]
    sweeps = [view_sweep(parent, data, catalogue) for parent in known]
    return View(
        data=data,
        catalogue=catalogue,
        summary=summarise(data.runs, catalogue),
        dynamics=charts.dynamics(data.runs),
        sweeps=sweeps,
        tables=paper_tables(data.runs, catalogue, sweeps),
        alignment=charts.alignment(data.runs, catalogue),
        trajectory=charts.trajectory(data.runs, catalogue),
        entropy=charts.entropy(data.runs, catalogue),
        problems=[*_of_unknown(unknown), *_of_sweeps(sweeps), *_of_runs(data)],
    )


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
