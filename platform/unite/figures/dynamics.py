"""Training dynamics (paper Fig. 4): losses, held-out quality and latent spread by images seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from unite.figures.chart import Figure, Panel, Points, Series, thin
from unite.metrics.specs import shown_name, spec_of
from unite.metrics.specs.spec import Spec

History = Sequence[Mapping[str, float]]
"""Rows of a run's history: `images` and the metrics that were measured there."""
LOSSES = {"loss/reconstruction": "reconstruction", "loss/flow": "flow"}
"""The two losses of Fig. 4: logged name -> name in the legend."""
NO_TERMS = ("loss/total", "loss/flow_weight", *LOSSES)
STD = "latent/std"
SEEN = "training {noun}s seen"
FLOW_NOTE = "A rising flow loss per noising is no failure (Fig. 4)"


def dynamics_figure(
    history: History, *, metric: str, collapse_std: float, noun: str = "image"
) -> Figure:
    """Fig. 4 of one run, its terms of reconstruction, the held-out `metric` and latent/std."""
    names = {name: None for row in history for name in row}
    terms = [name for name in names if name.startswith("loss/") and name not in NO_TERMS]
    held_out = f"{metric}: held-out {noun}s, averaged weights"
    of_terms = [
        Series(label=name, points=thin(points_of(history, name)), index=index + len(LOSSES))
        for index, name in enumerate(terms)
    ]
    return Figure(
        panels=[
            losses({name: points_of(history, name) for name in LOSSES}, noun=noun),
            Panel(
                title=f"Reconstruction's terms, training {noun}s", x_label=SEEN.format(noun=noun),
                y_label="loss", series=of_terms,
            ),
            measured(metric, points_of(history, metric), title=held_out, noun=noun),
            _spread(history, collapse_std, noun),
        ],
        legend=[*enumerate([*LOSSES.values(), *terms])],
        caption=FLOW_NOTE,
    )  # fmt: skip


def losses(
    curves: Mapping[str, Points], *, title: str = "Losses", noun: str = "image",
    run: int | None = None,
) -> Panel:  # fmt: skip
    """Reconstruction and flow loss on one logarithmic axis. `curves`: logged name -> points."""
    series = [
        Series(label=words, points=thin(curves.get(name, ())), index=index)
        for index, (name, words) in enumerate(LOSSES.items())
    ]
    seen = SEEN.format(noun=noun)
    return Panel(title=title, x_label=seen, y_label="loss", series=series, log_y=True, run=run)


def points_of(history: History, name: str) -> list[tuple[float, float]]:
    """(images seen, value) of a metric."""
    return [(row["images"], row[name]) for row in history if name in row]


def measured(metric: str, points: Points, *, title: str = "", noun: str = "image") -> Panel:
    """A metric that was measured at some checkpoints."""
    return Panel(
        title=title or shown_name(metric), x_label=SEEN.format(noun=noun),
        y_label=unit(spec_of(metric)),
        series=[Series(label=shown_name(metric), points=points)],
    )  # fmt: skip


def unit(row: Spec | None) -> str:
    """Unit and direction of a metric in words."""
    return ", ".join(filter(None, (row.unit, row.better_words))) if row else ""


def _spread(history: History, collapse_std: float, noun: str) -> Panel:
    limit = [(row["images"], collapse_std) for row in (*history[:1], *history[-1:])]
    return Panel(
        title=STD, x_label=SEEN.format(noun=noun), y_label="dashed: collapsed below",
        holds_y=(0.0,),
        series=[
            Series(label=STD, points=thin(points_of(history, STD))),
            Series(label="collapsed below", points=limit, index=1, dashed=True, marked=False),
        ],
    )  # fmt: skip
