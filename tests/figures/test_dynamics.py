"""Training dynamics: drawn from a history, each metric in its panel."""

from __future__ import annotations

import pytest

from unite.figures.dynamics import dynamics_figure, losses, measured
from unite.figures.sheet import picture

NAMES = ("images", "loss/reconstruction", "loss/l1", "loss/flow", "latent/std")
HISTORY = [
    dict(zip(NAMES, (64, 0.6, 0.5, 0.1, 0.05), strict=True)),
    dict(zip(NAMES, (128, 0.4, 0.3, 0.4, 0.5), strict=True)),
    {"images": 128, "eval/psnr": 12.0},
    dict(zip(NAMES, (192, 0.3, 0.2, 0.6, 0.8), strict=True)),
    {"images": 192, "eval/psnr": 20.0},
]


def figure(history, **fields):
    return dynamics_figure(history, metric="eval/psnr", collapse_std=0.1, **fields)


@pytest.mark.parametrize("name", ["loss/reconstruction", "loss/l1", "loss/flow", "eval/psnr"])
def test_each_metric_is_drawn(name):
    without = [{key: value for key, value in row.items() if key != name} for row in HISTORY]
    assert picture(figure(HISTORY)).png != picture(figure(without)).png


def test_panels_hold_the_points_of_the_history():
    both, terms, held_out, spread = figure(HISTORY).panels
    assert [series.label for series in both.series] == ["reconstruction", "flow"] and both.log_y
    assert terms.series[0].points == [(64, 0.5), (128, 0.3), (192, 0.2)]
    assert held_out.series[0].points == [(128, 12.0), (192, 20.0)]
    assert held_out.y_label == "dB, higher is better"
    line, limit = spread.series
    assert line.points[-1] == (192, 0.8)
    assert limit.points == [(64, 0.1), (192, 0.1)] and limit.dashed


def test_a_domain_of_its_own_has_its_own_terms_and_noun():
    history = [{"images": 8, "loss/types": 1.0, "loss/positions": 2.0}]
    found = figure(history, noun="molecule")
    assert [series.label for series in found.panels[1].series] == ["loss/types", "loss/positions"]
    assert found.panels[0].x_label == "training molecules seen"


def test_an_empty_history_is_drawn_empty():
    assert picture(figure([])).png.startswith(b"\x89PNG")


def test_losses_of_runs_are_the_same_panel():
    curves = {"loss/reconstruction": [(64, 0.6)], "loss/flow": [(64, 0.1)]}
    panel = losses(curves, title="a run", run=3)
    assert (panel.title, panel.run) == ("a run", 3) and panel.log_y


def test_a_measured_metric_is_named_with_its_direction():
    assert measured("fd-pixels", [(1, 2.0)]).title == "FD-pixels"
    assert measured("fd-pixels", [(1, 2.0)]).y_label == "lower is better"
