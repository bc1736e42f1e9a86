"""The distance by guidance scale."""

from __future__ import annotations

from unite.figures.guidance import guidance_figure


def test_scales_seen_on_a_part_of_the_samples_are_hollow():
    figure = guidance_figure({1.0: 9.0, 1.2: 7.0, 1.4: 6.0}, {1.0: 0.1, 1.2: 1, 1.4: 1}, 1.4, "fid")
    whole, part, best = figure.panels[0].series
    assert whole.points == [(1.2, 7.0), (1.4, 6.0)] and not whole.dashed
    assert part.points == [(1.0, 9.0)] and part.dashed
    assert {x for x, _ in best.points} == {1.4} and figure.panels[0].y_label == "FID"
