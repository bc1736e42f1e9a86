"""The paper's figures from the collected runs: Fig. 4 (dynamics), Fig. 6 (alignment), Fig. 7
(trajectory), and weight entropy against the start.

Runs whose measurements have differing cards never share a chart: each protocol has its own figure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from unite.paper import TABLES
from unite.reporting.catalogue import Catalogue, Entry, in_words
from unite.reporting.collect import ReportRun
from unite.reporting.curves import BLOCKS, AlignmentCurves
from unite.reporting.figures import COLORS, Figure, Panel, Series
from unite.reporting.pictures import Thumbnail

MOST_POINTS = 160
"""Largest number of points of a curve; longer ones are averaged in stretches."""
IMAGES = "training images"
TIME = "t (0 = noise, 1 = clean)"
DYNAMICS = {"loss/reconstruction": "reconstruction", "loss/flow": "flow"}
CLEAN = 1.12
"""Place of D(z0) on the axis of t: apart from t = 1, since it is no prediction."""
GROUPS = {"norm": "norms, adaLN", "functional": "attention, MLP", "other": "embeddings, heads"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A picture of a run."""

    run: int
    caption: str
    picture: Thumbnail


@dataclass(frozen=True, kw_only=True)
class Bar:
    """Weight entropy of one state of one model."""

    label: str
    parts: dict[str, float]
    """Entropy by group, in MB."""
    entry: Entry | None = None
    """Catalogue entry of the total."""

    @property
    def total(self) -> float:
        """Total entropy in MB."""
        return sum(self.parts.values())


@dataclass(frozen=True, kw_only=True)
class Bars:
    """Bars on one scale."""

    title: str
    bars: Sequence[Bar]
    run: int | None = None
    note: str = ""

    @property
    def longest(self) -> float:
        """Total of the longest bar in MB; 1 when all are 0."""
        return max((bar.total for bar in self.bars), default=0.0) or 1.0


def dynamics(runs: Sequence[ReportRun]) -> list[Panel]:
    """Fig. 4: reconstruction and flow loss of each run."""
    panels = []
    for index, run in enumerate(runs):
        curves = {name: thin(run.curves.get(name, ())) for name in DYNAMICS}
        if not any(curves.values()):
            continue
        series = [
            Series(label=DYNAMICS[name], points=points, index=number)
            for number, (name, points) in enumerate(curves.items())
        ]
        panels.append(
            Panel(
                title=run.name,
                x_label=IMAGES,
                y_label="loss",
                series=series,
                log_y=True,
                run=index,
            )  # fmt: skip
        )
    return panels


def thin(points: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
    """Points of a curve, MOST_POINTS at most; means of stretches where there are more."""
    size = -(-len(points) // MOST_POINTS) or 1
    stretches = [points[start : start + size] for start in range(0, len(points), size)]
    return [
        (sum(x for x, _ in part) / len(part), sum(y for _, y in part) / len(part))
        for part in stretches
    ]


def alignment(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Figure]:
    """Fig. 6: CKA, CKNNA and cosine by block, and the final latents' cosine by t."""
    return _by_protocol(runs, catalogue, "alignment", "cka_mean", _alignment_figure)


def trajectory(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Figure]:
    """Fig. 7: PSNR of decoded predictions by t, and pictures of them."""
    return _by_protocol(runs, catalogue, "trajectory", "psnr_z0", _trajectory_figure)


def entropy(runs: Sequence[ReportRun], catalogue: Catalogue) -> list[Bars]:
    """Weight entropy of each run's encoder, as it started and as it is; the paper's last."""
    found = []
    for index, run in enumerate(runs):
        entries = {
            e.card.metric: e
            for e in catalogue.of_run(index)
            if e.newest and e.card.suite == "entropy"
        }
        bars = [
            Bar(
                label=f"{words}, {state}",
                parts={
                    group: entries[name].card.value
                    for group in GROUPS
                    if (name := f"{part}{prefix}{group}_mb") in entries
                },
                entry=entries.get(f"{part}{prefix}total_mb"),
            )
            for part, words in (("", "encoder"), ("denoiser_", "denoiser"))
            for prefix, state in (("random_", "at the start"), ("", "trained"))
        ]
        if bars := [bar for bar in bars if bar.parts]:
            bins = next(iter(entries.values())).card.details.get("bins")
            found.append(Bars(title=run.name, bars=bars, run=index, note=f"{bins} bins"))
    return found


def paper_entropy() -> Bars:
    """The paper's figures, which have one group for all but norms, or none for norms alone."""
    table = TABLES["entropy_mb"]
    bars = [
        Bar(
            label=name if "functional" in row else f"{name}, norms alone",
            parts={group: row[group] for group in GROUPS if group in row},
        )
        for name, row in table.rows.items()
    ]
    return Bars(title=f"Paper, {table.source}: UNITE-B", bars=bars, note=table.protocol)


def _by_protocol(
    runs: Sequence[ReportRun], catalogue: Catalogue, suite: str, metric: str, make: Any
) -> list[Figure]:
    """A figure for each protocol of a suite, of at most COLORS runs each."""
    groups: dict[str, list[tuple[int, ReportRun]]] = {}
    for index, run in enumerate(runs):
        entry = catalogue.newest(index, (suite, metric))
        if entry is not None:
            groups.setdefault(entry.letter, []).append((index, run))
    letters = sorted(groups, key=lambda each: (len(each), each))
    warning = ""
    if len(letters) > 1:
        words = in_words(catalogue.differing((suite, metric), letters), letters)
        warning = f"measured differently, so not in one chart: {words}"
    figures = []
    for each in letters:
        group = groups[each]
        for start in range(0, len(group), COLORS):
            apart = f"Protocol {each}; {warning}" if warning else ""
            figures.append(make(group[start : start + COLORS], apart))
    return figures


def _alignment_figure(group: Sequence[tuple[int, ReportRun]], warning: str) -> Figure:
    results = [(run.name, run.alignment) for _, run in group if run.alignment is not None]
    if not results:
        caption = "The curves cannot be read: the list of what is not whole says why"
        return Figure(panels=(), warning=warning, caption=caption)
    depth = max(curves.depth for _, curves in results)
    blocks = [
        Panel(
            title=f"{words} of registers",
            x_label="block",
            y_label="1 = same",
            series=_block_series(results, name),
            x_ticks=_block_ticks(depth),
        )
        for name, words in BLOCKS.items()
    ]
    latents = [
        Series(label=label, points=list(zip(curves.levels, curves.latents, strict=True)), index=n)
        for n, (label, curves) in enumerate(results)
    ]
    last = Panel(title="Cosine of final latents", x_label=TIME, y_label="1 = same", series=latents)
    caption = f"{results[0][1].num_images:,} held-out images"
    if len(results) > 1:
        caption += "; lines are means over noise levels, bands reach from the least to the greatest"
    labels = [series.label for series in blocks[0].series]
    return Figure(
        panels=[*blocks, last],
        legend=list(enumerate(labels)),
        caption=caption + ("; the last panel is of the run itself" if len(results) == 1 else ""),
        warning=warning,
    )


def _block_series(results: Sequence[tuple[str, AlignmentCurves]], name: str) -> list[Series]:
    """One run: a line for each noise level. Several: means over the levels, in bands."""
    if len(results) == 1:
        (_, curves) = results[0]
        return [
            Series(label=f"t = {t:g}", points=list(enumerate(curve, start=1)), index=index)
            for index, (t, curve) in enumerate(zip(curves.levels, curves.blocks[name], strict=True))
        ]
    return [
        _mean_series(label, curves.blocks[name], index)
        for index, (label, curves) in enumerate(results)
    ]


def _mean_series(label: str, curves: Sequence[Sequence[float]], index: int) -> Series:
    columns = list(zip(*curves, strict=True))
    return Series(
        label=label,
        points=[(block, sum(c) / len(c)) for block, c in enumerate(columns, start=1)],
        index=index,
        band=[(min(c), max(c)) for c in columns],
    )


def _block_ticks(depth: int) -> list[tuple[float, str]]:
    step = -(-depth // 12)
    return [(block, str(block)) for block in range(1, depth + 1, step)]


def _trajectory_figure(group: Sequence[tuple[int, ReportRun]], warning: str) -> Figure:
    series, pictures = [], []
    for number, (index, run) in enumerate(group):
        found = run.evaluations.newest("trajectory")
        if found is None:
            continue
        values = {row.card.metric: row.card.value for row in found.outcome.rows}
        levels = found.outcome.rows[0].card.details.get("levels", ())
        points = [(t, values[name]) for t in levels if (name := f"psnr_t{t:.2f}") in values]
        clean = [(CLEAN, values["psnr_z0"])] if "psnr_z0" in values else []
        series.append(Series(label=run.name, points=points, index=number))
        series.append(Series(label=f"{run.name}, D(z0)", points=clean, index=number, dashed=True))
        if run.trajectory is not None:
            pictures.append(Shown(run=index, caption=_rows_of(levels), picture=run.trajectory))
    panel = Panel(
        title="Decoded predictions along the trajectory",
        x_label=TIME,
        y_label="PSNR to the input (dB)",
        series=series,
        x_ticks=[*((t / 4, f"{t / 4:g}") for t in range(5)), (CLEAN, "D(z0)")],
    )
    legend = [(number, run.name) for number, (_, run) in enumerate(group)]
    return Figure(panels=[panel], legend=legend, warning=warning, pictures=pictures)


def _rows_of(levels: Sequence[float]) -> str:
    names = ["input", *(f"prediction at t = {t:g}" for t in levels), "D(z0)"]
    return f"Rows: {', '.join(names)}"
