"""Confidence intervals of differences between means over a few seeds: a verdict's yes or no.

Twice the standard error is a 95% interval of many seeds alone. Two seeds at each of two points that
are alike differ beyond it in 18 of 100 cases, three in 12: their spread is guessed from the same
few values. Student's t says how far a difference must go instead: 4 to 13 standard errors with
two seeds, 2.8 to 4.3 with three, 1.96 with many.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
"""Share of differences between equal points that stay within the interval."""


class Interval(NamedTuple):
    """Spread of a difference between means."""

    error: float
    """Standard error."""
    reach: float
    """Half the width of the confidence interval: a larger difference decides."""


def of_two_means(a: Sequence[float], b: Sequence[float]) -> Interval:
    """Interval of mean(a) - mean(b), independent, with spreads of their own (Welch 1947).

    Seeds are not paired: over them, points of a sweep go up and down on their own. ValueError for
    fewer than two values on a side.
    """
    parts = [(statistics.variance(each) / len(each), len(each) - 1) for each in (a, b)]
    total = sum(part for part, _ in parts)
    if total == 0:
        return Interval(0.0, 0.0)
    # Imported here, because whoever plans a sweep judges nothing.
    from scipy.special import stdtrit

    freedom = total**2 / sum(part**2 / degrees for part, degrees in parts)
    error = math.sqrt(total)
    return Interval(error, float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error)
