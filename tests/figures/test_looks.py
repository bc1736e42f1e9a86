"""Looks: one table for style sheets and pixels."""

from __future__ import annotations

import re

import pytest

from unite.figures.looks import COLORS, LIGHT, LOOKS, css, resolved, standalone_css


def test_later_words_overrule_earlier_ones_and_colours_are_looked_up():
    assert resolved("mark c1") == {"fill": LIGHT["c1"], "stroke": LIGHT["c1"], "stroke-width": 1.3}
    assert resolved("mark c1 hollow")["fill"] == LIGHT["paper"]
    assert resolved("line c2 dashed")["stroke-dasharray"] == 4.0


def test_a_word_that_is_no_look_is_refused():
    with pytest.raises(ValueError, match="'lime' is none of"):
        resolved("line lime")


def test_the_page_defines_every_colour_in_both_themes(root):
    page = (root / "dashboards" / "report.css").read_text()
    for name in {name for name in re.findall(r"var\(--([a-z0-9]+)\)", css()) if name != "c"}:
        assert page.count(f"--{name}: ") >= 2, name


def test_a_file_has_all_colours_and_rules_of_its_own():
    text = standalone_css()
    assert all(f"--{name}: {color};" in text for name, color in LIGHT.items())
    assert all(f".{word} {{" in text for word in LOOKS)
    assert all(f".c{index} {{" in text for index in range(COLORS))
