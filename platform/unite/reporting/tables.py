"""The paper's Tables 1, 2, 3, 5 and 6, with our numbers of the same kind in rows below.

A column is one metric under its true name: an FD of ours never stands in the column of FID.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from unite.ablation.verdict import paper_cells, paper_value
from unite.config.axes import NOISE, SHIFT, Axis
from unite.metrics.specs import better_words, of_family, shown_name, spec_of
from unite.paper import TABLES, Table
from unite.reporting.catalogue import Catalogue, Cell, Entry, metric_of
from unite.reporting.collect import ReportRun
from unite.reporting.sweeps import SweepView, Value

PARAMETERS = "parameters (M)"
PAPER_HEADS = {"params_m_true": PARAMETERS, "params_m": PARAMETERS}
"""Columns of the paper's figures; others are metrics. Reported counts are not the code's."""
LEFT_OUT = ("params_m_reported",)
AXES_OF = "images"
"""Kind of the samples of the paper's sweeps."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A table of models."""

    title: str
    table: str
    """Key of `unite.paper.TABLES`."""
    kind: str
    """Kind of the samples."""
    suites: tuple[str, ...]
    """Suites whose numbers of ours stand in it."""
    others: str = ""
    """Table of models of others, which is folded until a click."""


MODELS = (
    Model(
        title="Class-conditional generation",
        table="imagenet256_generation",
        kind="images",
        suites=("generation",),
        others="imagenet256_baselines",
    ),
    Model(
        title="Reconstruction",
        table="imagenet256_reconstruction",
        kind="images",
        suites=("reconstruction",),
    ),
    Model(
        title="Molecules",
        table="qm9",
        kind="molecules",
        suites=("reconstruction", "generation"),
    ),
    Model(
        title="Crystals",
        table="mp20",
        kind="crystals",
        suites=("reconstruction", "generation"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A model or a setting."""

    name: str
    cells: Mapping[str, Cell]
    """Column -> cell."""
    note: str = ""
    run: int | None = None
    """Index of our run; None for the paper's rows and for means over runs."""


@dataclass(frozen=True, kw_only=True)
class RowGroup:
    """Rows of one origin."""

    title: str
    rows: Sequence[TableRow]
    ours: bool = False
    folded: bool = False
    """True if the rows are folded until a click."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table of the paper, continued by ours."""

    title: str
    source: str
    head: str
    """Head of the first column."""
    groups: Sequence[RowGroup]
    note: str = ""

    @property
    def columns(self) -> list[str]:
        """Columns, in the order in which they first appear in the rows."""
        rows = [row for group in self.groups for row in group.rows]
        return list(dict.fromkeys(name for row in rows for name in row.cells))

    @property
    def better(self) -> dict[str, str]:
        """Column -> direction in words."""
        return {name: better_words(name) for name in self.columns}


def paper_tables(
    runs: Sequence[ReportRun], catalogue: Catalogue, sweeps: Sequence[SweepView]
) -> list[PaperTable]:
    """Tables of the kinds of samples that the runs are of: Tables 1, 2 and both halves of 6 for
    images, 3 for molecules, 5 for crystals."""
    kinds = catalogue.kinds(runs)
    swept = [view.axis for view in sweeps]
    return [
        *(_of_runs(model, runs, catalogue) for model in MODELS if model.kind in kinds),
        *(_of_axis(axis, sweeps) for axis in (NOISE, SHIFT) if AXES_OF in kinds or axis in swept),
    ]


def _of_runs(model: Model, runs: Sequence[ReportRun], catalogue: Catalogue) -> PaperTable:
    paper, ours = TABLES[model.table], _rows(runs, catalogue, model)
    groups = [RowGroup(title="Paper", rows=_of_table(paper))]
    if ours:
        groups.append(RowGroup(title="Ours: newest evaluation of a run", rows=ours, ours=True))
    if model.others:
        table = TABLES[model.others]
        title = f"Paper: others, {table.protocol}"
        groups.append(RowGroup(title=title, rows=_of_table(table), folded=True))
    note = f"The paper's: {paper.protocol}"
    if any(cell.letter for row in ours for cell in row.cells.values()):
        note += "; letters are protocols, as in the table of runs"
    if not ours:
        note += "; no training run of ours has been measured yet"
    return PaperTable(
        title=model.title, source=paper.source, head="Model", groups=groups, note=note
    )


def _of_axis(axis: Axis, sweeps: Sequence[SweepView]) -> PaperTable:
    columns = {
        name: {value: paper_value(cell) for (_, value), cell in cells.items()}
        for name, cells in paper_cells(axis).items()
    }
    groups = [RowGroup(title="Paper", rows=_paper_rows(list(axis.fields), columns))]
    groups += [
        RowGroup(title=f"Ours: {view.name}", rows=rows, ours=True)
        for view in sweeps
        for cohort in view.cohorts
        if view.axis is axis and (rows := _sweep_rows(cohort.metrics, cohort.points))
    ]
    (first, *_) = axis.paper["generation"].values()
    protocol = f"The paper's: {TABLES[first.table].protocol}"
    note = protocol if len(groups) > 1 else f"{protocol}; ablations/sweep_{axis.name}.py makes ours"
    head = axis.label.split(",")[0]
    return PaperTable(title=axis.title, source=axis.source, head=head, groups=groups, note=note)


def _of_table(table: Table) -> list[TableRow]:
    """Rows of the paper's table, without the parameters that it reports and the code has not."""
    metrics = dict.fromkeys(metric for row in table.rows.values() for metric in row)
    ours = {theirs: key for key, theirs in table.names.items()}
    columns = {
        PAPER_HEADS.get(metric) or shown_name(ours.get(metric, metric)): {
            name: row[metric] for name, row in table.rows.items() if metric in row
        }
        for metric in metrics
        if metric not in LEFT_OUT
    }
    return _paper_rows(list(table.rows), columns)


def _paper_rows(names: Sequence[str], columns: Mapping[str, Mapping[str, float]]) -> list[TableRow]:
    """Rows of figures, each column to as many places as the paper prints."""
    places = {head: max(map(_decimals, column.values())) for head, column in columns.items()}
    return [
        TableRow(
            name=name,
            cells={
                head: Cell(text=f"{column[name]:,.{places[head]}f}")
                for head, column in columns.items()
                if name in column
            },
        )
        for name in names
    ]


def _decimals(value: float) -> int:
    """Places after the point."""
    return len(f"{value:g}".partition(".")[2])


def _rows(runs: Sequence[ReportRun], catalogue: Catalogue, model: Model) -> list[TableRow]:
    """A row for each training run that has numbers of a table; trials stand with their sweeps."""
    found = []
    for index, run in enumerate(runs):
        whole = run.kind == model.kind
        ours = {
            shown_name(entry.card.metric): _cell(entry, catalogue)
            for suite in model.suites
            for row in of_family(suite, model.kind)
            for entry in catalogue.of_suite(index, suite if whole else f"{suite}-{model.kind}")
            if row.column and spec_of(entry.card.metric, suite) is row
        }
        if not ours or run.trials:
            continue
        # Table 2 has no sizes.
        sized = "generation" in model.suites
        size = catalogue.newest(index, ("compute", "params_m")) if sized else None
        ours |= {PARAMETERS: _cell(size, catalogue)} if size else {}
        note = run.info.params.get("model.sharing", "")
        words = f"{note} weights" if note else ""
        words = finetune_words(run.info.params, [each.info.params for each in runs]) or words
        found.append(TableRow(name=run.name, cells=ours, note=words, run=index))
    return found


def finetune_words(params: Mapping[str, str], others: Sequence[Mapping[str, str]]) -> str:
    """Note on a run whose decoder was fine-tuned (METHOD 6), from params of MLflow; else "".

    A run with an adversary says so when no control of equal steps stands among `others`.
    """
    if not (parent := params.get("parent.run", "")):
        return ""
    if float(params.get("adversarial.weight", 0)) == 0:
        return f"control: {parent}, the same steps without an adversary"
    equal = ("parent.run", "finetune.epochs", "finetune.batch_size", "finetune.lr")
    has_control = any(
        float(other.get("adversarial.weight", 1)) == 0
        and all(other.get(name) == params.get(name) for name in equal)
        for other in others
    )
    words = f"{parent} + GAN decoder ft"
    return words if has_control else f"{words}; compare with a control of equal steps, absent here"


def _cell(entry: Entry, catalogue: Catalogue) -> Cell:
    several = len(catalogue.protocols[metric_of(entry.card)]) > 1
    return Cell(text=entry.text, entries=[entry], letter=entry.letter if several else "")


def _sweep_rows(
    metrics: Sequence[str], points: Sequence[tuple[str, Sequence[Value]]]
) -> list[TableRow]:
    return [
        TableRow(
            name=name.rpartition("= ")[2],
            cells={
                metric: Cell(text=value.text, spread=value.spread, entries=value.entries)
                for metric, value in zip(metrics, values, strict=True)
                if value.text
            },
        )
        for name, values in points
    ]
