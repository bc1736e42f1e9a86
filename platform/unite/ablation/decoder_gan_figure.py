"""Figure and pictures of the ablation of the decoder's fine-tuning."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Sequence

import numpy as np

from unite.ablation.decoder_gan import ARMS, PARENT, Measured, standard_error
from unite.figures.chart import Figure, Panel, Series
from unite.metrics.specs import better_words, shown_name
from unite.sampling.grid import image_grid

TICK_LETTERS = 8
SHOWN = 10
"""Number of held-out images in the pictures: those that fine-tuning changed most."""


def gan_figure(measured: Sequence[Measured], metrics: Sequence[str], caption: str) -> Figure:
    """A panel per metric: each seed a dot, bars one standard error, parents side by side."""
    parents = list(dict.fromkeys(m.parent for m in measured))
    return Figure(
        panels=[_panel(measured, metric, parents) for metric in metrics],
        legend=list(enumerate(parents)),
        title="Adversarial fine-tuning of the decoder (Appendix A)",
        caption=caption,
    )


def _panel(measured: Sequence[Measured], metric: str, parents: Sequence[str]) -> Panel:
    arms = [arm for arm in (PARENT, *ARMS) if any(m.arm == arm for m in measured)]
    series: list[Series] = []
    for index, parent in enumerate(parents):
        found = {
            arm: [m.metrics[metric] for m in measured if m.parent == parent and m.arm == arm]
            for arm in arms
        }
        found = {arm: values for arm, values in found.items() if values}
        place = {arm: arms.index(arm) + 0.2 * index for arm in found}
        dots = [(place[arm], value) for arm, values in found.items() for value in values]
        series += [
            Series(label="", points=dots, index=index, joined=False, faint=True),
            Series(
                label=parent,
                points=[(place[arm], statistics.fmean(values)) for arm, values in found.items()],
                errors=[standard_error(v) if len(v) > 1 else 0.0 for v in found.values()],
                index=index,
                joined=False,
            ),
        ]
    suite, _, name = metric.rpartition("/")
    return Panel(
        title=f"{suite}: {shown_name(name)}",
        x_label="",
        y_label=better_words(name),
        series=series,
        x_ticks=[(float(place), _tick(arm)) for place, arm in enumerate(arms)],
    )


def _tick(arm: str) -> str:
    """An arm's name in lines that fit beside its neighbours' (a chart breaks at commas)."""
    return ", ".join(textwrap.wrap(arm.replace(",", ""), TICK_LETTERS))


def before_and_after(pictures: dict[str, np.ndarray]) -> np.ndarray:
    """Grid (H, W, C) uint8 with a row per entry (held-out images, before, control, after), of the
    images that differ most between the last two; entries are uint8 (N, H, W, C) in one order."""
    *_, control, after = pictures.values()
    change_N = np.abs(control.astype(int) - after.astype(int)).reshape(len(after), -1).sum(1)
    chosen = np.argsort(-change_N, kind="stable")[:SHOWN]
    rows = np.concatenate([images[chosen] for images in pictures.values()])
    return image_grid(rows, columns=len(chosen))
