import math

import pytest

from unite.evaluation.guidance import FULL, SCALES, adaptive_sweep, full_sweep


class Curve:
    """A distance with one minimum; a part of the samples shows it biased and, if asked, bent."""

    def __init__(self, best, *, width=0.5, noise=0.0):
        self.best, self.width, self.noise = best, width, noise
        self.calls = []

    def __call__(self, indices, share):
        self.calls.append((tuple(indices), share))
        return [self.value(index, share) for index in indices]

    def value(self, index, share):
        away = (SCALES[index] - self.best) / self.width
        wobble = self.noise * math.sin(7.0 * index + 30 * share) * (1 - share)
        return 2.0 + math.expm1(abs(away)) - abs(away) / 2 + 0.3 / share + wobble


def test_the_grid_is_that_of_the_paper():
    assert (SCALES[0], SCALES[-1], len(SCALES)) == (1.0, 4.0, 16)


def test_the_full_sweep_measures_every_scale_on_all_samples():
    curve = Curve(2.2)
    sweep = full_sweep(SCALES, curve)
    assert curve.calls == [(tuple(range(16)), FULL)]
    assert SCALES[sweep.best] == 2.2
    assert sweep.cost == 16
    assert sweep.closed


@pytest.mark.parametrize("best", SCALES)
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_adaptive_sweep_finds_the_same_scale_for_a_quarter(best, noise):
    curve = Curve(best, noise=noise)
    sweep = adaptive_sweep(SCALES, curve)
    assert sweep.best == full_sweep(SCALES, Curve(best)).best
    assert sweep.shares[sweep.best] == FULL
    assert sweep.cost <= 16 / 4
    assert sweep.closed


@pytest.mark.parametrize("best", [0.3, 1.09, 1.31, 2.49, 3.71, 4.4])
@pytest.mark.parametrize("width", [0.1, 0.5, 2.0])
def test_it_does_so_between_and_outside_of_the_grid(best, width):
    sweep = adaptive_sweep(SCALES, Curve(best, width=width))
    assert sweep.best == full_sweep(SCALES, Curve(best, width=width)).best
    assert sweep.cost <= 4


def test_a_misleading_coarse_look_still_costs_no_more_than_a_quarter():
    """The coarse curve has its minimum elsewhere: the answer may be open, but says so."""

    def measure(indices, share):
        best = 3.4 if share < FULL else 1.6
        return [(SCALES[index] - best) ** 2 for index in indices]

    sweep = adaptive_sweep(SCALES, measure)
    assert sweep.cost <= 4
    assert not sweep.closed


def test_no_scale_is_measured_twice_on_one_share():
    curve = Curve(2.0)
    adaptive_sweep(SCALES, curve)
    seen = [(index, share) for indices, share in curve.calls for index in indices]
    assert len(seen) == len(set(seen))
