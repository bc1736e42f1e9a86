"""A panel's marks: their places, names and tooltips, and what cannot be drawn."""

from __future__ import annotations

import pytest

from unite.figures.chart import Bar, Bars, Panel, Series, thin
from unite.figures.draw import BAR_LABEL, draw
from unite.figures.marks import Disc, Stroke, Words


def panel(points, **fields):
    series = [Series(label="<b>", points=points, **fields.pop("series", {}))]
    return Panel(title="a & b", x_label="x", y_label="y", series=series, **fields)


def texts(drawing):
    return [mark.text for mark in drawing.marks if isinstance(mark, Words)]


def strokes(drawing, look):
    return [m for m in drawing.marks if isinstance(m, Stroke) and m.look.split()[0] == look]


def test_markers_have_their_values_as_tooltips_and_axes_their_names():
    drawing = draw(panel([(1, 2.0), (2, 3.0)], series={"errors": [0.1, 0.0]}))
    assert [mark.title for mark in drawing.marks if isinstance(mark, Disc)] == [
        "<b>: 1, 2",
        "<b>: 2, 3",
    ]
    assert {"x", "y"} <= set(texts(drawing))
    assert drawing.words == "a & b: y over x; <b>"
    assert len([m for m in strokes(drawing, "line") if len(m.pieces) == 3]) == 1, "one error bar"


def test_every_mark_lies_inside_the_drawing():
    drawing = draw(panel([(0, -5.0), (14, 5.0)], series={"errors": [3.0, 3.0]}))
    places = [m.center for m in drawing.marks if isinstance(m, Disc)]
    lines = [mark for mark in drawing.marks if isinstance(mark, Stroke)]
    places += [place for line in lines for piece in line.pieces for place in piece]
    assert all(0 < x < drawing.width and 0 < y < drawing.height for x, y in places)


def test_long_names_of_points_are_broken_and_make_the_drawing_higher():
    plain = draw(panel([(0, 1.0)], x_ticks=[(0, "shared")]))
    long = draw(panel([(0, 1.0)], x_ticks=[(0, "separate, no stop-grad")]))
    assert long.height == plain.height + 10
    assert {"separate", "no stop-grad"} <= set(texts(long))


def test_what_has_no_place_is_not_drawn():
    drawing = draw(panel([(1, 0.0), (2, float("nan")), (3, 4.0)], log_y=True))
    assert sum(isinstance(mark, Disc) for mark in drawing.marks) == 1
    assert draw(panel([])).marks == ()


def test_bands_points_and_links_stay_together_when_some_are_left_out():
    series = {"band": [(1, 2), (3, 4), (5, 6)], "links": ["a", "b", "c"]}
    drawing = draw(panel([(1, 1.5), (2, float("inf")), (3, 5.5)], series=series))
    assert [mark.link for mark in drawing.marks if isinstance(mark, Disc)] == ["a", "c"]
    ((band,),) = [mark.pieces for mark in strokes(drawing, "band")]
    assert len(band) == 4


def test_an_axis_reaches_what_it_must_hold():
    low, high = (draw(panel([(1, 5.0), (2, 6.0)], holds_y=holds)) for holds in ((), (0.0,)))
    assert "0" in texts(high) and "0" not in texts(low)


def test_many_points_and_limits_have_no_markers():
    many = draw(panel([(x, 1.0 + x) for x in range(60)]))
    limit = draw(panel([(0, 1.0), (1, 1.0)], series={"marked": False, "dashed": True}))
    for drawing in (many, limit):
        assert not [mark for mark in drawing.marks if isinstance(mark, Disc)]
    assert strokes(limit, "line")[0].look == "line c0 dashed"


def test_bars_are_as_long_as_their_parts_on_one_scale():
    looks = {"a": ("c0", "first"), "b": ("rest", "second")}
    bars = [Bar(label="one", parts={"a": 3.0, "b": 1.0}), Bar(label="two", parts={"a": 2.0})]
    drawing = draw(Bars(title="t", unit="MB", bars=bars, looks=looks))
    found = {m.title: m.pieces[0] for m in strokes(drawing, "part")}
    widths = {title: box[1][0] - box[0][0] for title, box in found.items()}
    whole = widths["first: 3 MB"] + widths["second: 1 MB"]
    assert widths["first: 2 MB"] == pytest.approx(whole / 2, abs=0.1), "places have one decimal"
    assert found["first: 3 MB"][0][0] == BAR_LABEL == found["first: 2 MB"][0][0]
    assert {"4 MB", "2 MB"} <= set(texts(drawing))


@pytest.mark.parametrize(("count", "left"), [(0, 0), (1, 1), (160, 160), (161, 81), (1000, 143)])
def test_long_curves_are_averaged_and_keep_their_mean(count, left):
    found = thin([(step, float(step)) for step in range(count)])
    assert len(found) == left
    assert all(x == y for x, y in found)
