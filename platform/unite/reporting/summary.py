"""The table of runs, with the paper's figures below in rows of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from unite.figures.dynamics import unit
from unite.metrics.specs import SPECS, TRAINING, number, shown_name, shown_value, spec_of
from unite.metrics.specs.spec import Spec
from unite.paper import TABLES, counterpart
from unite.reporting.catalogue import Catalogue, Cell, Metric, in_words
from unite.reporting.collect import ReportRun


@dataclass(frozen=True, kw_only=True)
class PaperModel:
    """A model of the paper, and where its figures stand."""

    name: str
    kind: str
    """Kind of the samples."""
    source: str
    """Places in the paper and the data, in words."""
    tables: Mapping[str, str]
    """Suite -> key of `unite.paper.TABLES`."""

    def figure(self, metric: Metric) -> float | None:
        """Its figure for one of our metrics; None where the paper has none."""
        (suite, _, part), name = metric[0].partition("-"), metric[1]
        if name == "params_m":  # reported counts are not the code's
            suite, name = "generation", "params_m_true"
        table = self.tables.get(suite, "")
        if not table or part not in ("", self.kind) or self.name not in TABLES[table].rows:
            return None
        found = counterpart(name, suite=table, row=self.name)
        return found.value if found else None


IMAGES = {
    "generation": "imagenet256_generation",
    "reconstruction": "imagenet256_reconstruction",
    "compute": "compute",
}
PAPER_MODELS = (
    PaperModel(
        name="UNITE-B",
        kind="images",
        source="Tables 1 and 2, Section 5.3: ImageNet 256x256, Inception",
        tables=IMAGES,
    ),
    *(
        PaperModel(
            name=name,
            kind="images",
            source="Table 1: ImageNet 256x256, Inception",
            tables=IMAGES,
        )
        for name in ("UNITE-L", "UNITE-XL")
    ),
    PaperModel(
        name="UNITE-S",
        kind="molecules",
        source="Table 3: QM9",
        tables=dict.fromkeys(("generation", "reconstruction"), "qm9"),
    ),
    PaperModel(
        name="UNITE-S",
        kind="crystals",
        source="Table 5: MP20",
        tables=dict.fromkeys(("generation", "reconstruction"), "mp20"),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of numbers."""

    metric: Metric
    """Metric of the column: (suite, name); for logged values ("", name)."""
    title: str
    unit: str
    """Unit and direction in words."""
    letters: tuple[str, ...] = ()
    """Protocols in it, when there are several."""


@dataclass(frozen=True, kw_only=True)
class PaperRow:
    """A model of the paper."""

    name: str
    source: str
    cells: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """The table."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    """Cells of each run."""
    paper: tuple[PaperRow, ...]
    warnings: tuple[str, ...]
    """Columns whose numbers must not be compared with each other, with the reasons."""


def summarise(runs: Sequence[ReportRun], catalogue: Catalogue) -> Summary:
    """The table of all runs."""
    kinds = catalogue.kinds(runs)
    columns = [_with_letters(column, catalogue) for column in _columns(runs, catalogue, kinds)]
    warnings = []
    for column in columns:
        if column.letters:
            fields = catalogue.differing(column.metric, column.letters)
            warnings.append(f"{column.title}: {in_words(fields, column.letters)}")
    return Summary(
        columns=tuple(columns),
        rows=tuple(
            tuple(_cell(run, index, column, catalogue) for column in columns)
            for index, run in enumerate(runs)
        ),
        paper=tuple(_paper_row(model, columns) for model in PAPER_MODELS if model.kind in kinds),
        warnings=tuple(warnings),
    )


def logged_columns() -> dict[str, str]:
    """Columns of what training logs by itself, which has no card: logged name -> heading."""
    rows = [row for row in SPECS.values() if row.column == "runs" and row.logged_name]
    return {
        row.logged_name: row.heading if row.family == TRAINING else f"{row.name} in training"
        for row in rows
    }


def _columns(runs: Sequence[ReportRun], catalogue: Catalogue, kinds: set[str]) -> list[Column]:
    """Columns in the order of the metrics' rows; the costs, which every run has, are last."""
    newest = sorted({(e.card.suite, e.card.metric) for e in catalogue.entries if e.newest})
    rows = [row for row in SPECS.values() if row.column == "runs" and row.family != TRAINING]
    columns = [
        Column(metric=metric, title=title_of(metric), unit=unit(row))
        for row in rows
        if row.better and (not row.domains or not kinds.isdisjoint(row.domains))
        for metric in _measured(row, newest)
    ]
    for name, words in logged_columns().items():
        if any(run.logged(name) is not None for run in runs):
            columns.append(Column(metric=("", name), title=words, unit=unit(spec_of(name))))
    return columns + [
        Column(metric=(row.family, row.key), title=row.heading, unit=unit(row))
        for row in rows
        if not row.better
    ]


def _measured(row: Spec, metrics: Sequence[Metric]) -> list[Metric]:
    """A metric under the names of the extractors that measured it, and by each part of a joint
    model.

    The paper's extractor has its column always, so that no other distance is taken for it.
    """
    own = [(row.family, row.key)] if row.elsewhere and row.judges else []
    found = [
        (suite, name)
        for suite, name in metrics
        if suite.partition("-")[0] == row.family and spec_of(name, suite) is row
    ]
    return list(dict.fromkeys([*own, *found]))


def title_of(metric: Metric) -> str:
    """Heading of a metric, with the part of a joint model that it is of."""
    suite, name = metric
    return ", ".join(filter(None, (shown_name(name), suite.partition("-")[2])))


def _with_letters(column: Column, catalogue: Catalogue) -> Column:
    found = {
        entry.letter
        for entry in catalogue.entries
        if entry.newest and (entry.card.suite, entry.card.metric) == column.metric
    }
    if len(found) < 2:
        return column
    letters = tuple(each for each in catalogue.protocols[column.metric] if each in found)
    return replace(column, letters=letters)


def _cell(run: ReportRun, index: int, column: Column, catalogue: Catalogue) -> Cell:
    suite, name = column.metric
    if not suite:
        value = run.logged(name)
        return Cell() if value is None else Cell(text=shown_value(name, value), value=value)
    entry = catalogue.newest(index, column.metric)
    if entry is None:
        return Cell()
    letter = entry.letter if column.letters else ""
    return Cell(text=entry.text, value=entry.card.value, entries=[entry], letter=letter)


def _paper_row(model: PaperModel, columns: Sequence[Column]) -> PaperRow:
    values = [model.figure(column.metric) for column in columns]
    return PaperRow(
        name=model.name,
        source=model.source,
        cells=tuple("" if value is None else number(value) for value in values),
    )
