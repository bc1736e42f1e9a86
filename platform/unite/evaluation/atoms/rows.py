"""Lines of the tables of molecules and crystals: a number, its error, the truth, the paper's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unite.evaluation.card import MetricCard
from unite.evaluation.results import Row
from unite.metrics.atoms.judged import Number
from unite.metrics.specs import shown_value
from unite.paper import counterpart


def atoms_row(card: MetricCard, error: float, truth: Number | None, kind: str) -> Row:
    """A number of a `kind` of samples with its standard error and the truth as its note; the truth
    is on the card too."""
    parts = [f"+- {error:.2g}"] if np.isfinite(error) else []
    if truth is not None and np.isfinite(truth[0]):
        value, spread, num = truth
        parts.append(f"truth {plus_minus(card.metric, value, spread)} ({num:,})")
        details = {"truth": value, "truth_error": spread if np.isfinite(spread) else None}
        card = replace(card, details={**card.details, **details})
    paper = counterpart(card.metric, suite=kind)
    return Row(card=card, paper=paper, note=", ".join(parts))


def plus_minus(metric: str, value: float, error: float) -> str:
    """A value with its standard error, where it has one."""
    spread = f" +- {error:.2g}" if np.isfinite(error) else ""
    return f"{shown_value(metric, value)}{spread}"
