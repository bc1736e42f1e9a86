"""Results of a suite: numbers with their cards, pictures and remarks, kept in its folder."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from unite.evaluation.card import MetricCard
from unite.metrics.errors import MetricError
from unite.paper import PaperFigure
from unite.runs import RESULTS_FILE
from unite.storage import Store

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One number of the table."""

    card: MetricCard
    """Name, value and everything that it depends on."""
    paper: PaperFigure | None = None
    """Counterpart in the paper, on the paper's own data."""
    note: str = ""
    """Note for readers beside it."""

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Row:
        """Inverse of `asdict`, also after JSON."""
        paper = content["paper"] and PaperFigure(**content["paper"])
        card = MetricCard.from_dict(content["card"])
        return cls(card=card, paper=paper, note=content["note"])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """All results of a suite."""

    suite: str
    rows: tuple[Row, ...]
    protocol: str = ""
    """Protocol in one line; the cards hold it in full."""
    remarks: tuple[str, ...] = ()
    """Missing measurements with their reasons, and warnings."""
    files: Mapping[str, bytes] = field(default_factory=dict, compare=False, repr=False)
    """Pictures (.png) and further files by name."""

    def save(self, folder: Store) -> None:
        """Write the files, and last the numbers: with them the suite is done."""
        for name, data in self.files.items():
            folder.write(name, data)
        write_outcomes(folder, [self])

    @classmethod
    def load(cls, folder: Store) -> Outcome:
        """Read what `save` wrote into a folder of its own."""
        (outcome,) = read_outcomes(folder)
        names = [name for name in folder.list() if name != RESULTS_FILE and folder.is_file(name)]
        return replace(outcome, files={name: folder.read(name) for name in names})

    def to_dict(self) -> dict[str, Any]:
        """JSON-able fields, without the files."""
        return {
            "suite": self.suite,
            "protocol": self.protocol,
            "rows": [asdict(row) for row in self.rows],
            "remarks": list(self.remarks),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Outcome:
        """Inverse of `to_dict`, also after JSON."""
        return cls(
            suite=content["suite"],
            protocol=content["protocol"],
            rows=tuple(Row.from_dict(row) for row in content["rows"]),
            remarks=tuple(content["remarks"]),
        )


def write_outcomes(folder: Store, outcomes: Iterable[Outcome]) -> None:
    """Write results.json."""
    folder.write_json(RESULTS_FILE, {"outcomes": [outcome.to_dict() for outcome in outcomes]})


def read_outcomes(folder: Store, name: str = RESULTS_FILE) -> list[Outcome]:
    """Read a results.json; MetricError when it holds something else."""
    content = folder.read_json(name, error=MetricError)
    try:
        return [Outcome.from_dict(outcome) for outcome in content["outcomes"]]
    except (KeyError, TypeError) as error:
        raise MetricError(
            f"{folder}/{name} holds no results of an evaluation: name the results.json that "
            "jobs/evaluate.py wrote"
        ) from error


def has_outcomes(folder: Store) -> bool:
    """True if a folder has its results; damaged ones are told, and count as none."""
    if not folder.is_file(RESULTS_FILE):
        return False
    try:
        read_outcomes(folder)
    except MetricError as error:
        logger.warning("%s. It counts as missing, and is written again", error)
        return False
    return True


def merge_outcomes(folder: Store, new: Iterable[Outcome], order: Sequence[str]) -> list[Outcome]:
    """Outcomes in the folder's results.json with `new` in place of their suites, in `order`.

    Of a damaged file the outcomes are those that its suites' own folders keep, the newest of each.
    """
    if not folder.is_file(RESULTS_FILE):
        found = []
    else:
        found = read_outcomes(folder) if has_outcomes(folder) else _kept_below(folder)
    merged = {outcome.suite: outcome for outcome in (*found, *new)}
    return [merged[suite] for suite in order if suite in merged]


def _kept_below(folder: Store) -> list[Outcome]:
    """Outcomes in the folders below, oldest first."""
    homes = [folder / name for name in folder.list()]
    kept = [home for home in homes if not home.is_file() and has_outcomes(home)]
    kept.sort(key=lambda home: home.time(RESULTS_FILE))
    return [outcome for home in kept for outcome in read_outcomes(home)]
