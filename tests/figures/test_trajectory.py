"""Fig. 7 in numbers."""

from __future__ import annotations

from unite.figures.trajectory import CLEAN, TrajectoryCurve, to_the_input, trajectory_figure


def test_a_trajectory_has_a_line_and_apart_from_it_the_clean_latent():
    curve = TrajectoryCurve(
        metric="psnr", levels=(0.1, 0.5, 0.9), values=(9.0, 15.0, 22.0), clean=30.0
    )
    (panel,) = trajectory_figure({"shared": curve}).panels
    line, clean = panel.series
    assert line.points == [(0.1, 9.0), (0.5, 15.0), (0.9, 22.0)]
    assert clean.points == [(CLEAN, 30.0)] and clean.dashed
    assert panel.y_label == "PSNR to the input (dB)"


def test_any_metric_can_stand_along_a_trajectory():
    assert to_the_input("closeness") == "closeness to the input"
