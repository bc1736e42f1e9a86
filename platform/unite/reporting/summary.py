"""The table of runs, with the paper's figures below in rows of their own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from unite.evaluation.report import number
from unite.metrics.better import direction
from unite.paper import TABLES
from unite.reporting.catalogue import Catalogue, Entry, Metric, in_words, index_of, title
from unite.reporting.collect import ReportRun

LOGGED = {"latent/std": "latent std", "eval/psnr": "PSNR in training"}
"""Metrics that training logs by itself; they have no card."""
LOGGED_UNITS = {"latent/std": "0 = collapsed", "eval/psnr": "dB, higher is better"}
COSTS = {
    ("compute", "params_m"): ("parameters", "10^6, trained"),
    ("compute", "tflop_per_sample"): ("TFLOP", "per image, training"),
}
UNITS = {"psnr": "dB, "}
MEASURED = (
    ("reconstruction", ("psnr",)),
    ("generation", ("fid", "fd")),
    ("generation", ("is", "cs")),
    ("reconstruction", ("rfid", "rfd")),
)
"""Columns in their order: suite, and first words of metric names."""
PAPER_COLUMNS: tuple[Metric, ...] = (("generation", "fid"), ("reconstruction", "rfid"))
"""Columns that are always shown, so that nobody takes another distance for them."""
PAPER_MODELS = ("UNITE-B", "UNITE-L", "UNITE-XL")


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
class Cell:
    """One number of a run, or nothing."""

    text: str = ""
    value: float | None = None
    entry: Entry | None = None
    letter: str = ""
    """Letter of the protocol, shown where a column holds several."""


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
    columns = [_with_letters(column, catalogue) for column in _columns(runs, catalogue)]
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
        paper=tuple(_paper_row(model, columns) for model in PAPER_MODELS),
        warnings=tuple(warnings),
    )


def better_words(metric: str) -> str:
    """Direction of a metric in words; empty for a metric without one."""
    better = direction(metric)
    return f"{better} is better" if better else ""


def _columns(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Column]:
    newest = {(e.card.suite, e.card.metric) for e in catalogue.entries if e.newest}
    measured = [
        metric
        for suite, heads in MEASURED
        for metric in sorted(
            {m for m in (*newest, *PAPER_COLUMNS) if m[0] == suite and _head(m[1]) in heads},
            key=lambda m: (heads.index(_head(m[1])), m[1]),
        )
    ]
    columns = [
        Column(metric=(suite, name), title=title(name), unit=_unit(name))
        for suite, name in measured
    ]
    for name, words in LOGGED.items():
        if any(name in run.info.metrics for run in runs):
            columns.append(Column(metric=("", name), title=words, unit=LOGGED_UNITS[name]))
    for metric, (words, unit) in COSTS.items():
        columns.append(Column(metric=metric, title=words, unit=unit))
    return columns


def _head(name: str) -> str:
    return name.partition("-")[0]


def _unit(name: str) -> str:
    return f"{UNITS.get(name, '')}{better_words(name)}"


def _with_letters(column: Column, catalogue: Catalogue) -> Column:
    found = {
        entry.letter
        for entry in catalogue.entries
        if entry.newest and (entry.card.suite, entry.card.metric) == column.metric
    }
    letters = tuple(sorted(found, key=index_of)) if len(found) > 1 else ()
    return Column(metric=column.metric, title=column.title, unit=column.unit, letters=letters)


def _cell(run: ReportRun, index: int, column: Column, catalogue: Catalogue) -> Cell:
    suite, name = column.metric
    if not suite:
        value = run.info.metrics.get(name)
        return Cell() if value is None else Cell(text=number(value), value=value)
    entry = catalogue.newest(index, column.metric)
    if entry is None:
        return Cell()
    letter = entry.letter if column.letters else ""
    return Cell(text=entry.text, value=entry.card.value, entry=entry, letter=letter)


def _paper_row(model: str, columns: Sequence[Column]) -> PaperRow:
    generation = TABLES["imagenet256_generation"].rows[model]
    figures = {
        ("generation", "fid"): generation.get("fid"),
        ("generation", "is"): generation.get("is"),
        ("reconstruction", "rfid"): TABLES["imagenet256_reconstruction"]
        .rows.get(model, {})
        .get("rfid"),
        ("compute", "params_m"): generation.get("params_m_true"),
        ("compute", "tflop_per_sample"): TABLES["compute"]
        .rows.get(model, {})
        .get("tflop_per_sample"),
    }
    values = [figures.get(column.metric) for column in columns]
    return PaperRow(
        name=model,
        source="Tables 1 and 2, Section 5.3" if model == "UNITE-B" else "Table 1",
        cells=tuple("" if value is None else number(value) for value in values),
    )
