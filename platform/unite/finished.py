"""Finished work: what a command printed, kept, and told again when it is typed once more.

The same command has nothing to do then, and must say so at once: so this module imports no
torch, Ray or MLflow. A record is found by a digest of all that the output follows from, and
names the files that the command left: who changes one of them ends it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from unite.config.serialise import json_digest
from unite.storage import StorageError, Store

FILE = ".finished.json"
"""Name of a record that lies in the folder that it tells of; hidden names are no part of it."""
DIGESTED_BYTES = 64 * 2**20
"""Largest file that is known by its digest; a larger one by its size and time."""
FIELDS: dict[str, type] = {"key": str, "lines": list, "left": dict, "time": str, "again": str}


@dataclass(frozen=True, kw_only=True)
class Record:
    """The place of what one command has printed."""

    folder: Store
    file: str
    key: str
    """Digest of all that the output follows from."""

    def keep(self, lines: Sequence[str], left: Sequence[Store], again: Store) -> None:
        """Keep what was printed by work that is whole, and the files or folders that it left.

        `again` is what a user deletes to have it done once more.
        """
        time = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
        known = {place.uri: fingerprint(place) for place in left}
        content = {"key": self.key, "lines": list(lines), "left": known}
        content |= {"time": time, "again": again.uri}
        self.folder.write_json(self.file, content)

    def lines(self) -> list[str] | None:
        """Lines to print, when the work is whole and all that it left is still as it was."""
        try:
            kept = self.folder.read_json(self.file, FIELDS)
            if kept["key"] != self.key:
                return None
            left = {Store(uri): known for uri, known in kept["left"].items()}
            if any(fingerprint(place) != known or not known for place, known in left.items()):
                return None
        except StorageError:
            return None
        again = f"finished at {kept['time']}; nothing to do. To do it again, delete {kept['again']}"
        return [*map(str, kept["lines"]), again]


def fingerprint(place: Store) -> str:
    """Text that changes when a file, or anything in a folder but hidden files, is written anew.

    Empty when nothing is there.
    """
    stamps = {n: s for n, s in place.stamps().items() if not n.rpartition("/")[2].startswith(".")}
    if "" in stamps and stamps[""][0] <= DIGESTED_BYTES:
        return place.digest()
    return json_digest(stamps) if stamps else ""
