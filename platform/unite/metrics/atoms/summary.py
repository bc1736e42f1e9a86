"""Rates with their standard errors, and the summary of a reconstruction (METHOD 7)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

FRAGILE = 0.9
"""Quantile that `rmsd_p90` is."""


def percentage(hits: int, total: int) -> tuple[float, float]:
    """(percentage, its binomial standard error); NaN of nothing."""
    if not total:
        return math.nan, math.nan
    share = hits / total
    return 100 * share, 100 * math.sqrt(share * (1 - share) / total)


def mean(values: np.ndarray) -> tuple[float, float]:
    """(mean, its standard error) in float64; NaN of nothing, error NaN of one value."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return math.nan, math.nan
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def reconstruction(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Summary of a domain's metrics per sample: `match_pct`, `exact_pct`, `types_pct`, `rmsd_all`.

    Adds the mean over matched samples, which alone rewards failing on hard ones, and the median and
    90th percentile over all.
    """
    rmsd, matched = np.asarray(metrics["rmsd_all"], float), np.asarray(metrics["match_pct"]) > 0
    return {
        **{name: float(np.mean(values, dtype=np.float64)) for name, values in metrics.items()},
        "rmsd_matched": float(rmsd[matched].mean()) if matched.any() else math.nan,
        "rmsd_median": float(np.median(rmsd)),
        "rmsd_p90": float(np.quantile(rmsd, FRAGILE)),
    }
