"""`evaluate.py table4`: one checkpoint under the protocols of Table 4, beside the paper.

A protocol is a solver and a class sampling. The paper has three of the four; Heun on random classes
is the fourth of the same square.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

from unite import tracking
from unite.config.schema import Solver
from unite.drivers.delivery import nothing_to_send, send, untracked
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import (
    EvaluateArguments,
    SampleArguments,
    Table4Arguments,
    without_effect,
)
from unite.evaluation.finished import record_of
from unite.evaluation.request import Evaluation, combine, open_evaluation
from unite.evaluation.results import RESULTS_FILE, Outcome, Row, write_outcomes
from unite.evaluation.suite import work_items
from unite.metrics.specs import number, shown_name
from unite.paper import TABLES, PaperFigure
from unite.tables import markdown_lines, print_table

FOLDER = "table4"
REPORT_FILE = "table4.md"
PAPER = TABLES["evaluation_protocol"]
COLUMNS = {"nfe": ("nfe",), "fid": ("fid", "fd"), "is": ("is", "cs")}
"""Column of the paper -> first words of our names for that kind."""
NOTE = (
    "Heun takes 50 steps. Balanced: equally many samples of each class; random: classes drawn "
    f"uniformly. The paper's figures are NFE/FID/IS of {PAPER.source} ({PAPER.protocol}; "
    "Inception), which has no Heun on random classes. Next to a run on other data they are "
    "context, not a target."
)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Sampling protocol of one row."""

    solver: Solver
    labels: Literal["balanced", "uniform"]
    num_steps: int | None = None
    """Number of steps of a fixed-step solver; None for dopri5."""

    @property
    def classes(self) -> str:
        """The paper's word for the labels."""
        return "balanced" if self.labels == "balanced" else "random"

    @property
    def row(self) -> str:
        """The row's name in `unite.paper`."""
        steps = f", {self.num_steps} steps" if self.num_steps else ""
        return f"{self.solver}{steps}, {self.classes} classes"

    @property
    def suite(self) -> str:
        """Suite in MLflow's names, eval/<suite>/<metric>."""
        return f"table4-{self.solver}-{self.labels}"


PROTOCOLS = (
    Protocol(solver="heun", num_steps=50, labels="balanced"),
    Protocol(solver="heun", num_steps=50, labels="uniform"),
    Protocol(solver="dopri5", labels="balanced"),
    Protocol(solver="dopri5", labels="uniform"),
)


def main(arguments: Table4Arguments, storage: str) -> int:
    """Measure, print, keep and send the table: 0, or 1 when MLflow did not take it.

    ValueError for samples whose classes are not drawn, beside what `open_evaluation` raises.
    """
    asked = {each: request_of(arguments, each) for each in PROTOCOLS}
    first = open_evaluation(asked[PROTOCOLS[0]], storage)
    domain = first.target.subject.config.domain
    if any(without_effect(each, each.suite, domain) for each in asked.values()):
        raise ValueError(f"table4 draws classes in two ways, which {domain.kind} do not have")
    others = {each: open_evaluation(asked[each], storage) for each in PROTOCOLS[1:]}
    requests = {PROTOCOLS[0]: first, **others}
    record = record_of(replace(arguments, run=first.target.subject.uri))
    try:
        with kept(record) as whole:
            print("\n".join([first.title, *first.notices]))
            outcomes = measure(requests)
            headings, rows = table(outcomes)
            print_table(headings, rows, right=range(1, len(headings) - 1))
            folder = first.home / FOLDER
            write_outcomes(folder, outcomes.values())
            folder.write(REPORT_FILE, markdown(outcomes).encode())
            print(f"{NOTE}\ncards and this table: {folder}")
            made = [folder / name for name in (RESULTS_FILE, REPORT_FILE)]
            files = {f"{FOLDER}/{file.name}": file.read() for file in made}
            print(send(first.target, list(outcomes.values()), files, wanted=arguments.track))
            if nothing_to_send(first.target, wanted=arguments.track):
                whole(made, first.home)
    except tracking.TrackingError as error:
        return untracked(error)
    return 0


def measure(requests: Mapping[Protocol, Evaluation]) -> dict[Protocol, Outcome]:
    """Measure the table's rows. Chunks are the generation suite's: finished ones are used."""
    suites = {protocol: request.suites[0] for protocol, request in requests.items()}
    with session(next(iter(requests.values())).arguments) as run:
        suites = {protocol: suite.prepared(run) for protocol, suite in suites.items()}
        run("Table 4", [item for suite in suites.values() for item in work_items(suite)])
    return {protocol: row_of(protocol, combine(suite)) for protocol, suite in suites.items()}


def request_of(arguments: Table4Arguments, protocol: Protocol) -> EvaluateArguments:
    """The generation suite of one row, as `jobs/evaluate.py` would be asked for it."""
    shared = {item.name: getattr(arguments, item.name) for item in fields(SampleArguments)}
    chosen = {item.name: getattr(protocol, item.name) for item in fields(Protocol)}
    return EvaluateArguments(**shared, **chosen, suite=("generation",))


def row_of(protocol: Protocol, generation: Outcome) -> Outcome:
    """The table's figures of a row: the generation suite's numbers in the paper's columns."""
    rows = [
        replace(row, paper=_paper(protocol, column))
        for column in COLUMNS
        for row in generation.rows
        if _column(row) == column
    ]
    return replace(generation, suite=protocol.suite, rows=tuple(rows), remarks=(), files={})


def table(outcomes: Mapping[Protocol, Outcome]) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: a protocol, our figures under their true names, and the paper's."""
    names = list(dict.fromkeys(r.card.metric for o in outcomes.values() for r in o.rows))
    headings = ["protocol", *map(shown_name, names), "paper's figures"]
    return headings, [_cells(protocol, names, o.rows) for protocol, o in outcomes.items()]


def markdown(outcomes: Mapping[Protocol, Outcome]) -> str:
    """The table for the run's files."""
    return "\n".join([*markdown_lines(*table(outcomes)), "", NOTE, ""])


def _cells(protocol: Protocol, names: Sequence[str], rows: Sequence[Row]) -> list[str]:
    found = {row.card.metric: row for row in rows}
    ours = [number(found[name].card.value) if name in found else "" for name in names]
    paper = [figure for column in COLUMNS if (figure := _paper(protocol, column))]
    figures = "/".join(f"{figure.value:g}" for figure in paper) or "none"
    return [f"{protocol.solver} {protocol.classes}", *ours, figures]


def _column(row: Row) -> str:
    """The paper's column that a number belongs to; empty for other metrics."""
    head = row.card.metric.partition("-")[0]
    return next((column for column, heads in COLUMNS.items() if head in heads), "")


def _paper(protocol: Protocol, column: str) -> PaperFigure | None:
    value = PAPER.rows.get(protocol.row, {}).get(column)
    source = f"{PAPER.source}, {protocol.row} ({PAPER.protocol})"
    return None if value is None else PaperFigure(value=value, source=source)
