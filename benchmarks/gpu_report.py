"""The report of gpu.py: rows by step, as tables and as JSON, and the small files of long jobs."""

from __future__ import annotations

import json
import tarfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PACKED = (".json", ".jsonl", ".png", ".svg", ".csv", ".md")
"""Endings of a job's files that are packed."""
LARGEST_PACKED = 2 * 2**20
FRESH_S = 12 * 3600
"""Age in seconds up to which rows are gone on with."""
DAY = "%Y-%m-%d"


class Results:
    """Rows by step, on disk after each: tables for readers, JSON to go on from."""

    def __init__(self, out: Path, card: str, commit: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC)
        self.out, self.card = out, card
        self.title = f"GPU, {now:{DAY}}: {card}, commit {commit}"
        found = {p: rows for p in sorted(out.glob("*_gpu*.json")) if (rows := rows_of(p, card))}
        self.rows: dict[str, dict[str, Any]] = {}
        stems = (f"{now:{DAY}}_gpu{n}" for n in ("", *(f"_{n}" for n in range(2, 100))))
        self.stem = next(stem for stem in stems if not (out / f"{stem}.json").exists())
        if found:
            last = max(found, key=lambda path: path.stat().st_mtime)
            self.rows, self.stem = found[last], last.stem
        self.file = out / f"{self.stem}.json"

    def has(self, name: str) -> bool:
        """True if a step needs no second try."""
        return self.rows.get(name, {}).get("state") == "done"

    def keep(self, name: str, goal: str, state: str, rows: list[dict[str, Any]]) -> None:
        """Write what a step found."""
        self.rows[name] = {"state": state, "goal": goal, "rows": rows, "card": self.card}
        self._write(self.file, json.dumps(self.rows, indent=1))
        self._write(self.out / f"{self.stem}.md", "\n".join(self.lines()) + "\n")

    def lines(self) -> Iterator[str]:
        """The report: a table for each kind of step, then what has no row."""
        yield f"# {self.title}"
        kinds = dict.fromkeys(name.split()[0].rstrip(",") for name in self.rows)
        for kind in kinds:
            mine = {n: r for n, r in self.rows.items() if n.split()[0].rstrip(",") == kind}
            yield from ("", f"## {kind}", "", *table(mine))
        missing = {n: r["state"] for n, r in self.rows.items() if r["state"] != "done"}
        if missing:
            yield from ("", "## Not measured", "")
            yield from (f"- {name}: {state}" for name, state in missing.items())

    def pack(self) -> None:
        """The small files of long jobs, in one archive."""
        if not (self.out / "runs").is_dir():
            return
        with tarfile.open(self.out / f"{self.stem}_jobs.tar.gz", "w:gz") as archive:
            for path in sorted((self.out / "runs").rglob("*")):
                small = path.is_file() and path.stat().st_size <= LARGEST_PACKED
                if small and path.suffix in PACKED:
                    archive.add(path, path.relative_to(self.out))

    def _write(self, path: Path, text: str) -> None:
        beside = path.with_suffix(".part")
        beside.write_text(text)
        beside.replace(path)


def rows_of(file: Path, card: str) -> dict[str, dict[str, Any]]:
    """Rows of a report that the same card goes on with: none of an old one, which a checkout may
    have made a minute ago."""
    try:
        made = datetime.strptime(file.name[:10], DAY).replace(tzinfo=UTC)
        rows = json.loads(file.read_text())
    except ValueError:
        return {}
    days = (datetime.now(UTC) - made).days
    fresh = days < 2 and time.time() - file.stat().st_mtime < FRESH_S
    return rows if fresh and all(row.get("card") == card for row in rows.values()) else {}


def table(results: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Rows of one kind as a Markdown table; columns in the order of their first use."""
    rows = [
        {"row": name, **row, "goal": result["goal"]}
        for name, result in results.items()
        for row in result["rows"]
    ]
    columns = list(dict.fromkeys(name for row in rows for name in row if name != "goal"))
    columns += ["goal"] * any(row["goal"] for row in rows)
    if rows:
        yield "| " + " | ".join(columns) + " |"
        yield "|" + " --- |" * len(columns)
    for row in rows:
        yield "| " + " | ".join(str(row.get(name, "")) for name in columns) + " |"
