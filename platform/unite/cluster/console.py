"""The live progress line of a run, read from its progress file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.table import Column

from unite import terminal, tracking
from unite.config.validate import warnings_of
from unite.data.classes import count_classes
from unite.data.overlap import shared_files
from unite.storage import Store
from unite.training.finished import Report, keep_report, report_lines
from unite.training.flops import training_flops
from unite.training.loop import Plan
from unite.training.progress import read_progress
from unite.training.runs import Run
from unite.training.setup import open_split
from unite.training.timings import WORKERS, Timings
from unite.words import clock, count

POLL_SECONDS = 0.5
PLAIN_SECONDS = 10.0
SHOWN = {
    "loss/total": "loss",
    "loss/l1": "l1",
    "loss/lpips": "lpips",
    "loss/flow": "flow",
}


def follow(run: Run, thread: threading.Thread) -> None:
    """Show progress until the thread ends: a live line in a terminal, else a line every 10 s."""
    show = _follow_live if terminal.console().is_terminal else _follow_plain
    show(_watch(run, thread))


def describe(progress: dict[str, Any] | None) -> str:
    """One line: state, images, rate, losses, time left."""
    if progress is None:
        return "starting workers"
    total, images = progress.get("total_images", 0), progress.get("images", 0)
    parts = [f"{progress['state']}: {images:,}/{total:,} images"]
    rate = progress.get("throughput/images_per_s", 0.0)
    if rate:
        parts.append(f"{rate:,.0f} images/s")
    parts += [f"{label} {progress[name]:.3f}" for name, label in SHOWN.items() if name in progress]
    if rate:
        parts.append(f"ETA {clock((total - images) / rate)}")
    return "  ".join(parts)


def _watch(run: Run, thread: threading.Thread) -> Iterator[dict[str, Any] | None]:
    """The progress of a run that starts now, every half second until its thread ends."""
    since, ready = time.time(), False
    while thread.is_alive():
        thread.join(POLL_SECONDS)
        progress = read_progress(run.folder)
        fresh = progress if progress and progress["time"] >= since else None
        if fresh is not None and not ready:
            ready = True
            terminal.phase(f"{count(run.config.cluster.num_workers, 'worker')} ready")
            Timings(Store(run.config.storage)).add({WORKERS: time.time() - since})
        yield fresh


def _follow_live(watched: Iterator[dict[str, Any] | None]) -> None:
    # A narrow terminal gets two lines; nothing is cut off.
    text = TextColumn("{task.description}", table_column=Column(overflow="fold"))
    with terminal.progress(BarColumn(bar_width=16), text, TimeElapsedColumn()) as bar:
        task = bar.add_task("starting workers", total=None)
        for progress in watched:
            if progress is not None:
                bar.update(
                    task,
                    description=describe(progress),
                    completed=progress.get("images", 0),
                    total=progress.get("total_images"),
                )


def _follow_plain(watched: Iterator[dict[str, Any] | None]) -> None:
    shown = time.monotonic()
    for progress in watched:
        if time.monotonic() - shown >= PLAIN_SECONDS:
            shown = time.monotonic()
            terminal.tell(describe(progress))


def print_plan(run: Run) -> None:
    """What is about to be computed: run folder, data, length, FLOPs, where it continues."""
    config = run.config
    shards, held_out = open_split(config, "train"), open_split(config, "eval")
    plan = Plan.of(config, shards.num_rows)
    flops = training_flops(config)
    place = run.resume_from
    start = f"continues after {count(int(place.name), 'image')}" if place else "starts afresh"
    rows = {
        "run": f"{run.folder} ({start})",
        "recipe": config.recipe,
        "data": f"{count(shards.num_rows, 'image')} in {shards.uri} (digest {shards.digest[:12]})",
        "held out": f"{count(held_out.num_rows, 'image')} in {held_out.uri}"
        + (", which are trained on" if shared_files(shards, held_out) else ""),
        "length": f"{count(plan.total_images, 'image')}, "
        f"{count(plan.total_images // plan.batch_size, 'step')} of {plan.batch_size}",
        "compute": f"{flops.total / 1e9:.4g} GFLOP per image, "
        f"{flops.total * plan.total_images:.3g} FLOP in all (F = {config.flow.steps})",
    }
    if notes := dict.fromkeys((*shards.notes, *held_out.notes)):
        rows["names"] = "; ".join(notes)
    classes = count_classes(shards, config.domain.num_classes)
    if classes is not None and (remark := classes.warning()):
        rows["classes"] = remark
    _print_rows(rows)
    for warning in warnings_of(config, num_steps=plan.total_images // plan.batch_size):
        _print_rows({"warning": warning})


def print_report(run: Run, report: Report, seconds: float) -> None:
    """Print the figures of a finished run and what to do next, and keep them in its folder."""
    uri = run.record.get("mlflow_uri")
    browse = tracking.describe(uri) if run.config.tracking.enabled and uri else ""
    report = replace(report, seconds=seconds, browse=browse)
    keep_report(run, report)
    print("\n".join(report_lines(run, report)))


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows)) + 2
    for name, value in rows.items():
        print(f"{name:<{width}}{value}")
