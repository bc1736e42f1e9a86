"""Confidence intervals of differences, against SciPy's tests and by counting."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from unite.ablation.intervals import CONFIDENCE, Interval, of_two_means


@pytest.mark.parametrize(("first", "second"), [(2, 2), (3, 3), (2, 5), (40, 30)])
def test_two_means_are_judged_as_by_welch(first, second):
    random = np.random.default_rng(first)
    a, b = random.normal(size=first), 3 + 2 * random.normal(size=second)
    found = stats.ttest_ind(a, b, equal_var=False).confidence_interval(CONFIDENCE)
    interval = of_two_means(a.tolist(), b.tolist())
    assert interval.reach == pytest.approx((found.high - found.low) / 2)
    expected = np.sqrt(a.var(ddof=1) / first + b.var(ddof=1) / second)
    assert interval.error == pytest.approx(expected)


def test_equal_points_of_few_seeds_are_rarely_told_apart():
    """Twice the standard error told 18% of them apart with two seeds."""
    values = np.random.default_rng(0).normal(size=(2000, 2, 2))
    apart = [
        abs(a.mean() - b.mean()) > of_two_means(a.tolist(), b.tolist()).reach for a, b in values
    ]
    assert np.mean(apart) < 1 - CONFIDENCE


def test_values_without_any_spread_have_no_interval():
    assert of_two_means([1.0, 1.0], [2.0, 2.0]) == Interval(0.0, 0.0)
