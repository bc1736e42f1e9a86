"""The command behind dashboards/build.py: check, collect, render, write."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from unite import tracking
from unite.config.schema import TrackingConfig
from unite.reporting.collect import Collected, collect
from unite.reporting.options import ReportOptions
from unite.reporting.page import render
from unite.reporting.view import view
from unite.storage import Store
from unite.words import count


def build(options: ReportOptions, storage: str, templates: Path) -> list[str]:
    """Write the page; returns lines of text: the problems, and the file with its size.

    `storage` is the default one, `templates` the folder of report.html.j2. TrackingError when
    MLflow does not answer or has no such runs, StorageError or ValueError when the page cannot be
    written.
    """
    out = Store.open(options.out)
    folder, _, name = out.uri.rpartition("/")
    if out.is_local and Path(out.path()).is_dir():
        raise ValueError(
            f"--out {options.out} is a folder: name the page's file, as in "
            f"{options.out.rstrip('/')}/report.html"
        )
    chosen = options.storage or storage
    config = TrackingConfig(uri=options.uri, experiment=options.experiment)
    data = collect(tracking.resolve_uri(config, chosen), options.experiment, chosen)
    seen = view(data)
    page = render(seen, templates, datetime.now(UTC)).encode()
    Store(folder).write(name, page)
    problems = [str(problem) for problem in seen.problems]
    return [*problems, f"{out}: {_counts(data)}, {len(page) / 1e6:.1f} MB, needs no network"]


def _counts(data: Collected) -> str:
    numbers = sum(len(run.evaluations.rows) for run in data.runs)
    runs, sweeps = count(len(data.runs), "run"), count(len(data.sweeps), "sweep")
    return f"{runs}, {sweeps}, {count(numbers, 'number')} with cards"
