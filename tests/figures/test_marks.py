"""Marks: markers differ, moving moves all, dashes have the length of the line."""

from __future__ import annotations

import math

import pytest

from unite.figures.marks import MARKERS, Disc, Stroke, Words, dashes, key, marker, moved


def test_markers_differ_in_shape():
    shapes = [repr(marker("mark c0", (0.0, 0.0), index)) for index in range(len(MARKERS))]
    assert len(set(shapes)) == len(MARKERS)


def test_a_key_is_a_line_with_its_marker_or_a_part():
    line, mark = key(3)
    assert (line.look, mark.look) == ("line c3", "mark c3")
    (part,) = key("rest")
    assert part.look == "part rest" and part.closed


def test_all_kinds_of_marks_are_moved():
    marks = [
        Stroke(look="line c0", pieces=[[(0.0, 0.0), (1.0, 1.0)]]),
        Disc(look="mark c0", center=(1.0, 2.0)),
        Words(look="tick", place=(3.0, 4.0), text="a"),
    ]
    stroke, disc, words = moved(marks, 10, 20)
    assert stroke.pieces == [[(10.0, 20.0), (11.0, 21.0)]]
    assert (disc.center, words.place) == ((11.0, 22.0), (13.0, 24.0))


@pytest.mark.parametrize("piece", [[(0, 0), (100, 0)], [(0, 0), (30, 40), (30, 90)]])
def test_dashes_cover_half_of_a_line_and_go_round_its_corners(piece):
    found = dashes(piece, 5.0)
    assert sum(math.dist(*each) for each in found) == pytest.approx(50.0)
    assert found[0][0] == (0, 0)
