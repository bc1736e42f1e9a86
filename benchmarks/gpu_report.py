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


class Results:
    """Rows by step, on disk after each: tables for readers, JSON to go on from."""

    def __init__(self, out: Path, title: str) -> None:
        out.mkdir(parents=True, exist_ok=True)
        self.out, self.title = out, title
        # A day that ends between two calls makes no second report.
        fresh = [p for p in out.glob("*_gpu.json") if time.time() - p.stat().st_mtime < FRESH_S]
        self.stem = fresh[0].stem if fresh else f"{datetime.now(UTC):%Y-%m-%d}_gpu"
        self.file = out / f"{self.stem}.json"
        self.rows: dict[str, dict[str, Any]] = {}
        if self.file.is_file():
            self.rows = json.loads(self.file.read_text())

    def has(self, name: str) -> bool:
        """True if a step needs no second try."""
        return self.rows.get(name, {}).get("state") == "done"

    def keep(self, name: str, goal: str, state: str, rows: list[dict[str, Any]]) -> None:
        """Write what a step found."""
        self.rows[name] = {"state": state, "goal": goal, "rows": rows}
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
