"""`evaluate.py table4`: one checkpoint under the protocols of Table 4, in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from rich.console import Console

from unite import tracking
from unite.drivers.delivery import nothing_to_send, send, untracked
from unite.drivers.session import session
from unite.drivers.told import kept
from unite.evaluation.arguments import Table4Arguments
from unite.evaluation.columns import print_columns
from unite.evaluation.finished import record_of
from unite.evaluation.request import Evaluation, combine, open_evaluation
from unite.evaluation.results import RESULTS_FILE, Outcome, write_outcomes
from unite.evaluation.suite import work_items
from unite.evaluation.table4 import (
    FOLDER,
    NOTE,
    PROTOCOLS,
    REPORT_FILE,
    Protocol,
    markdown,
    request_of,
    row_of,
    table,
)


def main(arguments: Table4Arguments, storage: str, console: Console) -> int:
    """Measure, print, keep and send the table: 0, or 1 when MLflow did not take it."""
    requests = {each: open_evaluation(request_of(arguments, each), storage) for each in PROTOCOLS}
    first = requests[PROTOCOLS[0]]
    record = record_of(replace(arguments, run=first.target.subject.uri))
    try:
        with kept(record, console) as whole:
            _print([first.title, *first.notices], console)
            outcomes = measure(requests)
            headings, rows = table(outcomes)
            print_columns(console, headings, rows, right=range(1, len(headings) - 1))
            folder = first.home / FOLDER
            write_outcomes(folder, outcomes.values())
            folder.write(REPORT_FILE, markdown(outcomes).encode())
            _print([NOTE, f"cards and this table: {folder}"], console)
            made = [folder / name for name in (RESULTS_FILE, REPORT_FILE)]
            files = {f"{FOLDER}/{file.name}": file.read() for file in made}
            done = send(first.target, list(outcomes.values()), files, wanted=arguments.track)
            _print([done], console)
            if nothing_to_send(first.target, wanted=arguments.track):
                whole(made, first.home)
    except tracking.TrackingError as error:
        return untracked(error)
    return 0


def _print(lines: Sequence[str], console: Console) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)


def measure(requests: Mapping[Protocol, Evaluation]) -> dict[Protocol, Outcome]:
    """Measure the table's rows. Chunks are the generation suite's: finished ones are used."""
    suites = {protocol: request.suites[0] for protocol, request in requests.items()}
    with session(next(iter(requests.values())).arguments) as run:
        suites = {protocol: suite.prepared(run) for protocol, suite in suites.items()}
        run("Table 4", [item for suite in suites.values() for item in work_items(suite)])
    return {protocol: row_of(protocol, combine(suite)) for protocol, suite in suites.items()}
