"""The table at the end: every number with its N, the paper's counterpart and a note."""

from __future__ import annotations

from collections.abc import Sequence

from unite.evaluation.results import Outcome, Row
from unite.metrics.specs import number, shown_name, shown_value
from unite.tables import print_table

HEADINGS = ("metric", "value", "N", "paper", "note")
PAPER_NOTE = (
    "Paper: its own figure for the nearest counterpart (its model of that size and sharing, else "
    "UNITE-B; ImageNet 256x256, Inception). "
    "Next to a run on other data it is context, not a target."
)
ATOMS_NOTE = (
    "Paper of molecules and crystals: UNITE-S on all of QM9 or MP20 (Tables 3 and 5). Truth: the "
    "same routine on true held-out structures, the ceiling of a rate; distances of its two halves."
)
ATOMS_DATA = ("(QM9", "(MP20")


def cells(row: Row) -> tuple[str, str, str, str, str]:
    """Cells of a line of the table."""
    paper = f"{number(row.paper.value)} ({row.paper.place})" if row.paper else ""
    count = f"{row.card.num_samples:,}" if row.card.num_samples > 1 else ""
    value = shown_value(row.card.metric, row.card.value)
    return shown_name(row.card.metric), value, count, paper, row.note


def print_outcomes(outcomes: Sequence[Outcome]) -> None:
    """Print all suites in one table, with remarks below."""
    rows = [line for o in outcomes for line in ((o.suite,), *map(cells, o.rows))]
    print_table(HEADINGS, rows, right=(1, 2, 3))
    protocols = [f"{outcome.suite}: {outcome.protocol}" for outcome in outcomes]
    print("\n".join([*protocols, *paper_notes(outcomes), *remarks_of(outcomes)]))


def paper_notes(outcomes: Sequence[Outcome]) -> list[str]:
    """Sentences on the paper's figures in the table, by the data that they are of."""
    sources = [row.paper.source for o in outcomes for row in o.rows if row.paper]
    of_atoms = [any(data in source for data in ATOMS_DATA) for source in sources]
    notes = [ATOMS_NOTE] if any(of_atoms) else []
    return [PAPER_NOTE, *notes] if not all(of_atoms) or not notes else notes


def remarks_of(outcomes: Sequence[Outcome]) -> list[str]:
    """Missing measurements and warnings, each with its suite."""
    return [f"{o.suite}: {remark}" for o in outcomes for remark in o.remarks]


def markdown(outcomes: Sequence[Outcome]) -> str:
    """The table as Markdown, for the run's files."""
    lines = ["| suite | " + " | ".join(HEADINGS) + " |", "|" + " --- |" * (len(HEADINGS) + 1)]
    for outcome in outcomes:
        for row in outcome.rows:
            parts = (part.replace("|", "/").replace("\n", " ") for part in cells(row))
            lines.append(f"| {outcome.suite} | " + " | ".join(parts) + " |")
    return "\n".join([*lines, "", *paper_notes(outcomes), *remarks_of(outcomes), ""])
