"""Rows that cannot be decoded: counted, listed in the run's folder, and too many end the run.

The list is <run>/bad_rows/<images seen at start>-<rank>-<number>.jsonl, one {"row": id, "reason":
text} a line and each row once however often it comes by. Every file is written once and whole:
object stores cannot append, and ranks on other nodes write beside each other.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

from unite.storage import StorageError, Store

FOLDER = "bad_rows"
BAD_ROWS_GRACE = 1000
"""The bad fraction is taken of at least this many rows, so that one early bad row is no verdict."""
BAD_ROWS_LOGGED = 10
WRITE_SECONDS = 10.0

log = logging.getLogger(__name__)


class BadDataError(ValueError):
    """Too many rows cannot be decoded; the message counts them per reason."""


class BadRowList:
    """One rank's part of the list in a run's folder; rows of other parts are not written again."""

    def __init__(self, run: Store, *, rank: int, images_seen: int) -> None:
        self._run = run
        self._prefix = f"{images_seen:012d}-{rank}"
        self._known = {entry["row"] for entry in read_bad_rows(run)}
        self._unwritten: list[dict[str, Any]] = []
        self._written_at = time.monotonic()
        # A run that starts twice at the same position keeps what the first one found.
        self._number = sum(name.startswith(f"{self._prefix}-") for name in run.list(FOLDER))

    def add(self, rows: Iterable[tuple[int, str]]) -> None:
        """List (row, reason) pairs; they are written every WRITE_SECONDS."""
        for row, reason in rows:
            if row not in self._known:
                self._known.add(row)
                self._unwritten.append({"row": row, "reason": reason})
        if self._unwritten and time.monotonic() - self._written_at >= WRITE_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Write the unwritten rows; if the folder refuses, they are kept for the next time."""
        self._written_at = time.monotonic()
        if not self._unwritten:
            return
        name = f"{FOLDER}/{self._prefix}-{self._number}.jsonl"
        lines = "".join(json.dumps(entry) + "\n" for entry in self._unwritten)
        try:
            self._run.write(name, lines.encode())
        except StorageError as error:
            log.warning("the list of bad rows is not written yet, it is tried again: %s", error)
            return
        self._number += 1
        self._unwritten.clear()


def read_bad_rows(run: Store) -> list[dict[str, Any]]:
    """The list of a run: {"row": id within the training split, "reason": text}, each row once."""
    found: dict[int, dict[str, Any]] = {}
    for name in run.list(FOLDER):
        if name.endswith(".jsonl"):
            for line in run.read(f"{FOLDER}/{name}").splitlines():
                entry = json.loads(line)
                found.setdefault(entry["row"], entry)
    return [found[row] for row in sorted(found)]


class BadRows:
    """Counts bad rows per reason, logs the first ones, and raises when there are too many.

    Counts are of this process since it started; a list, if given, keeps the rows themselves.
    """

    def __init__(self, uri: str, max_fraction: float, listed: BadRowList | None = None) -> None:
        self.rows_seen = 0
        self.counts: Counter[str] = Counter()
        self._uri = uri
        self._max_fraction = max_fraction
        self._list = listed

    @property
    def total(self) -> int:
        """Bad rows so far; a row that comes by in every epoch counts in every epoch."""
        return self.counts.total()

    def add(self, rows: int, bad: Iterable[tuple[int, str]]) -> None:
        """Account for a batch of so many rows with these bad (row, reason) pairs among them.

        BadDataError above the allowed fraction.
        """
        self.rows_seen += rows
        bad = sorted(bad)
        for row, reason in bad:
            if self.total < BAD_ROWS_LOGGED:
                log.warning("row %d of %s is bad: %s", row, self._uri, reason)
            # Domains put details after a colon; what is before it names the reason.
            self.counts[reason.partition(":")[0]] += 1
        if self._list is not None:
            self._list.add(bad)
        if self.total > self._max_fraction * max(self.rows_seen, BAD_ROWS_GRACE):
            self.close()
            raise BadDataError(self._verdict())

    def close(self) -> None:
        """Write the rest of the list."""
        if self._list is not None:
            self._list.flush()

    def summary(self) -> str:
        """The most frequent reasons with their counts."""
        return ", ".join(f"{count} x {reason}" for reason, count in self.counts.most_common(5))

    def _verdict(self) -> str:
        where = f" (rows and reasons: the run's folder {FOLDER})" if self._list else ""
        return (
            f"{self.total} of {self.rows_seen} rows of {self._uri} are bad ({self.summary()}), "
            f"more than data.max_bad_fraction = {self._max_fraction}{where}; repair the data, "
            "compare its labels with domain.num_classes, or raise the limit"
        )
