"""The search of the guidance scale: on made-up curves, and end to end with its cards."""

import json
import math

import pytest

from tiny_run import never, value
from unite.config.axes import CFG
from unite.evaluation.guidance import (
    FULL,
    SCALES,
    adaptive_sweep,
    at_the_end,
    full_sweep,
    too_few_to_search,
)


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


@pytest.mark.parametrize("search", [full_sweep, adaptive_sweep])
def test_a_best_scale_at_the_end_of_the_grid_is_told(search):
    """Both were called proven, and the minimum of the curve lay outside of what was tried."""
    assert "largest that was tried, 4" in at_the_end(search(SCALES, Curve(4.4)))
    assert not at_the_end(search(SCALES, Curve(2.2))) and not at_the_end(search(SCALES, Curve(1.0)))


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


def test_few_samples_are_swept_in_full(run_suites):
    """A prefix is whole chunks: a sixteenth of 100 samples would be a third of them."""
    adaptive, _ = run_suites("generation", cfg_adaptive=True, seed=1)
    full, _ = run_suites("generation", cfg_sweep=True, seed=1)  # the same chunks: nothing is drawn
    assert value(adaptive, "best_cfg_scale") == value(full, "best_cfg_scale")
    assert value(adaptive, "samples_drawn") == len(SCALES) * 100
    assert "--cfg-adaptive needs 512 samples" in adaptive.remarks[0]
    assert not any("--cfg-adaptive" in remark for remark in full.remarks)
    assert (too_few_to_search(511) == "", too_few_to_search(512) == "") == (False, True)


@pytest.mark.slow
def test_the_search_finds_what_the_full_sweep_finds_for_a_quarter(
    run_suites, random_export, storage
):
    data = str(storage / "data" / "digits")
    settings = {"num_samples": 640, "num_steps": 2, "run": random_export, "data": data}
    adaptive, generation = run_suites("generation", cfg_adaptive=True, **settings)
    full, _ = run_suites("generation", cfg_sweep=True, **settings)
    assert value(adaptive, "best_cfg_scale") == value(full, "best_cfg_scale")
    assert value(full, "samples_drawn") == len(SCALES) * 640
    assert value(adaptive, "samples_drawn") <= len(SCALES) * 640 / 4
    distances = json.loads(full.files["cfg_sweep.json"])["distances"]
    assert value(generation, "fd-pixels") == pytest.approx(min(distances.values()), rel=1e-9)


def test_its_cards_hold_the_protocol(run_suites):
    sweep, generation = run_suites("generation", cfg_sweep=True, seed=1)
    beside = generation.rows[0].card
    for row in sweep.rows:
        card = row.card
        assert (card.solver, card.num_steps, card.label_sampling) == ("euler", 4, "balanced")
        for name in ("reference", "extractor", "extractor_digest", "seed", "cfg_interval"):
            assert getattr(card, name) == getattr(beside, name), name
    details = {"scales": list(SCALES), "metric": "fd-pixels", "adaptive": False}
    assert [row.card.details for row in sweep.rows] == [details, details]
    assert {row.card.suite for row in sweep.rows} == {sweep.suite}
    content = json.loads(sweep.files["cfg_sweep.json"])
    assert content["card"]["reference"] == beside.reference


def test_the_sweep_leaves_generation_at_its_best_scale(run_suites, request_of):
    sweep, generation = run_suites("generation", cfg_adaptive=True)
    best = value(sweep, "best_cfg_scale")
    assert {row.card.cfg_scale for row in generation.rows} == {best}
    found = json.loads(sweep.files["cfg_sweep.json"])
    assert found["scales"][found["best"]] == best
    assert value(generation, "fd-pixels") == pytest.approx(
        found["distances"][str(found["best"])], rel=1e-9
    )


def test_a_point_of_the_ablation_finds_what_a_search_has_drawn(run_suites, monkeypatch):
    """Its trials ask for one scale each: `evaluate` at a scale that the search has measured."""
    sweep, _ = run_suites("generation", cfg_sweep=True, seed=1)
    distances = json.loads(sweep.files["cfg_sweep.json"])["distances"]
    monkeypatch.setattr("unite.sampling.generator.draw", never)
    for value_of_axis in ("1.0", "2.4", "4.0"):
        scale = CFG.fields[value_of_axis]["sampling.cfg_scale"]
        (point,) = run_suites("generation", cfg_scale=scale, seed=1)
        expected = distances[str(SCALES.index(scale))]
        assert value(point, "fd-pixels") == pytest.approx(expected, rel=1e-9)
