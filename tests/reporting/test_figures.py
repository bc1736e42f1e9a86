"""Charts as SVG: ticks, scales, labels, and what cannot be drawn."""

from __future__ import annotations

import xml.etree.ElementTree as Xml

import pytest

from unite.reporting.figures import Panel, Series, compact, draw, log_ticks, marker, ticks


def panel(points, **fields):
    series = [Series(label="<b>", points=points, **fields.pop("series", {}))]
    return Panel(title="a & b", x_label="x", y_label="y", series=series, **fields)


def texts(svg):
    return ["".join(node.itertext()) for node in Xml.fromstring(svg).iter() if node.tag == "text"]


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
    ("value", "text"),
    [(0.05, "0.05"), (9_600, "9600"), (38_400, "38.4k"), (1.2e6, "1.2M"), (6.7e20, "6.7e+11G")],
)
def test_numbers_on_axes_are_short(value, text):
    assert compact(value) == text


def test_a_chart_is_xml_with_names_escaped_and_values_as_tooltips():
    svg = draw(panel([(1, 2.0), (2, 3.0)], series={"errors": [0.1, 0.0]}))
    root = Xml.fromstring(svg)
    assert root.get("aria-label") == "a & b: y over x; <b>"
    titles = [node.text for node in root.iter() if node.tag == "title"]
    assert titles == ["<b>: 1, 2", "<b>: 2, 3"]
    assert {"x", "y"} <= set(texts(svg))


def test_every_mark_lies_inside_the_drawing():
    root = Xml.fromstring(draw(panel([(0, -5.0), (14, 5.0)], series={"errors": [3.0, 3.0]})))
    _, _, width, height = map(float, root.get("viewBox").split())
    for node in root.iter("circle"):
        assert 0 < float(node.get("cx")) < width and 0 < float(node.get("cy")) < height


def test_long_names_of_points_are_broken_and_make_the_drawing_higher():
    plain = draw(panel([(0, 1.0)], x_ticks=[(0, "shared")]))
    long = draw(panel([(0, 1.0)], x_ticks=[(0, "separate, no stop-grad")]))
    boxes = [float(Xml.fromstring(svg).get("viewBox").split()[3]) for svg in (plain, long)]
    assert boxes[1] == boxes[0] + 10
    assert "separateno stop-grad" in texts(long)


def test_what_has_no_place_is_not_drawn():
    svg = draw(panel([(1, 0.0), (2, float("nan")), (3, 4.0)], log_y=True))
    assert len(list(Xml.fromstring(svg).iter("circle"))) == 1
    assert "nothing to draw" in draw(panel([]))


def test_series_differ_in_colour_and_shape():
    marks = [str(marker(index)) for index in range(7)]
    assert len(set(marks)) == 7
