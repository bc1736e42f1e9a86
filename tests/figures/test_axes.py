"""Axes: round numbers, places, short names."""

from __future__ import annotations

import pytest

from unite.figures.axes import Scale, compact, log_ticks, names, ticks


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 14, [0, 5, 10]),
        (28.4, 28.7, [28.4, 28.5, 28.6, 28.7]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round(low, high, found):
    assert ticks(low, high) == pytest.approx(found)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0.1, 3, [0.1, 0.2, 0.5, 1, 2]), (1e-4, 1.5, [1e-4, 1e-3, 1e-2, 0.1, 1])],
)
def test_log_ticks_are_powers_of_ten_with_two_and_five_between_few(low, high, found):
    assert log_ticks(low, high) == pytest.approx(found)


@pytest.mark.parametrize(
    ("low", "high", "found"),
    [(0.55, 0.95, [0.6, 0.7, 0.8, 0.9]), (1.1, 3, [1.5, 2, 2.5, 3])],
)
def test_a_log_axis_without_two_of_these_has_round_numbers(low, high, found):
    assert log_ticks(low, high) == pytest.approx(found)


def test_numbers_of_a_narrow_axis_are_told_apart():
    assert names([1e5, 2e5, 3e5]) == ["100k", "200k", "300k"]
    assert names([99.9e6, 99.95e6, 1e8]) == ["99.9M", "99.95M", "100M"]
    assert names([28.41, 28.415, 28.42]) == ["28.41", "28.415", "28.42"]
    assert names([3.0]) == ["3"] and names([]) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "0.05"), (9_600, "9600"), (38_400, "38.4k"), (1.2e6, "1.2M"), (6.7e20, "6.7e+11G")],
)
def test_numbers_on_axes_are_short(value, text):
    assert compact(value) == text


def test_a_scale_maps_the_ends_inside_and_logarithms_evenly():
    scale = Scale(low=1.0, high=100.0, start=0.0, end=200.0, log=True)
    assert [scale(value) for value in (1.0, 10.0, 100.0)] == [0.0, 100.0, 200.0]
    flat = Scale.over([5.0, 5.0], 0.0, 100.0, log=False)
    assert flat(5.0) == 50.0


def test_a_metric_that_is_zero_everywhere_has_an_axis_from_zero():
    scale = Scale.over([0.0, 0.0], 0, 100, log=False)
    assert scale.ticks()[0] == 0 and scale.ticks()[-1] == 1
