"""Weight entropy by group of weights (paper Section 4), ours and the paper's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from unite.figures.chart import Bar, Bars, Figure
from unite.paper import TABLES

GROUPS = {
    "norm": ("c0", "norms, adaLN"),
    "functional": ("c4", "attention, MLP"),
    "other": ("rest", "embeddings, heads"),
}
"""Group of weights -> (look, name)."""
UNIT = "MB"


def entropy_figure(states: Mapping[str, Mapping[str, float]], *, bins: int, fits: int) -> Figure:
    """Entropy of each state of a model in MB by group, beside the paper's.

    `bins`: of the histograms behind it; `fits`: those that reproduce the paper's figures.
    """
    note = f"{bins} bins over each tensor's range; the paper gives none, {fits} fit its figures"
    ours = bars("Measured", states, note=note)
    return Figure(panels=[ours, paper_bars()], legend=list(GROUPS.values()))


def bars(
    title: str,
    states: Mapping[str, Mapping[str, float]],
    *,
    note: str = "",
    run: int | None = None,
    sources: Mapping[str, Any] | None = None,
) -> Bars:
    """Bars of states, without groups that are none of GROUPS. `sources`: state -> of its total."""
    found: Sequence[Bar] = [
        Bar(
            label=label,
            parts={group: parts[group] for group in GROUPS if group in parts},
            source=(sources or {}).get(label),
        )
        for label, parts in states.items()
    ]
    return Bars(title=title, unit=UNIT, bars=found, looks=GROUPS, note=note, run=run)


def paper_bars() -> Bars:
    """The paper's figures, which have one group for all but norms, or none but norms."""
    table = TABLES["entropy_mb"]
    states = {
        name if "functional" in row else f"{name}, norms alone": row
        for name, row in table.rows.items()
    }
    return bars(f"Paper, {table.source}: UNITE-B", states, note=table.protocol)
