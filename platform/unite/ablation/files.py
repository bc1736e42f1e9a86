"""The files of a sweep: figure, CSV with a row per trial, verdict and means in plain text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

from unite.ablation.figure import metric_name, sweep_figure
from unite.ablation.trials import Sweep
from unite.ablation.verdict import Measured, estimate, name_of, paper_value, shown_metrics
from unite.config.axes import Axis
from unite.domains import build_domain
from unite.figures.sheet import picture
from unite.tables import table_lines
from unite.words import count

FACTS = (
    "axis", "value", "arm", "seed", "digest", "mlflow_run_id", "run", "images", "parameters",
    "training_flops", "paper_generation", "paper_reconstruction",
)  # fmt: skip
WIDTH = 1000
"""Characters of a line of means: enough that none is wrapped."""


def report_files(
    sweep: Sweep, measured: Sequence[Measured], lines: Sequence[str]
) -> dict[str, bytes]:
    """Contents by file name; no figure without trials."""
    stem = sweep.axis.figure
    head = f"{sweep.axis.title} ({sweep.axis.source})\n{caption(sweep, measured)}\n\n"
    text = "\n".join([*lines, "", *means(sweep.axis, measured)])
    files = {
        f"{stem}.csv": table(sweep, measured).encode(),
        f"{stem}-verdict.txt": (head + text.rstrip() + "\n").encode(),
    }
    if measured:
        figure = sweep_figure(sweep.axis, measured, caption(sweep, measured))
        files_of = picture(figure)
        files |= {f"{stem}.png": files_of.png, f"{stem}.svg": files_of.svg}
    return files


def caption(sweep: Sweep, measured: Sequence[Measured]) -> str:
    """Caption of the figure: recipe, training images, seeds, samples, solver."""
    options = sweep.options
    config = sweep.trials[0].config
    sampling, noun = config.sampling, build_domain(config.domain).noun
    images = [each.result.images for each in measured] or [0]
    low, high = min(images), max(images)
    seen = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    equal = "images" if options.equal == "images" else "training FLOPs"
    guidance = f"guidance {sampling.cfg_scale:g}, " if sweep.axis.trains else ""
    return (
        f"recipe {config.recipe}, equal {equal}: {seen} training {noun}s per trial, "
        f"{count(options.seeds, 'seed')}, bars are one standard deviation; "
        f"{count(options.samples, 'sample')}, {sampling.solver}, {guidance}averaged weights"
    )


def means(axis: Axis, measured: Sequence[Measured]) -> list[str]:
    """Lines of a table: a row per point, a column per panel of the figure.

    Each cell: mean over seeds +- sample standard deviation (number of seeds).
    """
    metrics = shown_metrics(axis, measured)
    points = dict.fromkeys(each.trial.point for each in measured)
    if not points:
        return []
    rows = [
        [name_of(axis, point), *(estimate(measured, point, metric) or "-" for metric in metrics)]
        for point in points
    ]
    headings = ["mean +- standard deviation over seeds", *map(metric_name, metrics)]
    return table_lines(headings, rows, WIDTH, right=[])


def table(sweep: Sweep, measured: Sequence[Measured]) -> str:
    """CSV with a row per trial: identity, run, cost, every metric, the paper's figures."""
    metrics = list(dict.fromkeys(name for each in measured for name in each.result.metrics))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FACTS, *metrics, "remarks"])
    for each in measured:
        values = [each.result.metrics.get(name, "") for name in metrics]
        writer.writerow([*_facts(sweep, each), *values, " ".join(each.result.remarks)])
    return text.getvalue()


def _facts(sweep: Sweep, each: Measured) -> list[object]:
    trial, result = each.trial, each.result
    paper = [
        paper_value(cells[trial.point]) if trial.point in cells else ""
        for cells in (sweep.axis.paper.get(role, {}) for role in ("generation", "reconstruction"))
    ]
    return [
        sweep.axis.name, trial.value, trial.arm, trial.seed, trial.digest, each.run_id, each.run,
        result.images, result.parameters, result.flops, *paper,
    ]  # fmt: skip
