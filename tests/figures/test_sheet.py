"""Files of plots: SVG and PNG of one drawing, the same each time, with every series in them."""

from __future__ import annotations

import io
import subprocess
import sys
import xml.etree.ElementTree as Xml

import numpy as np
import pytest
from PIL import Image

from unite.figures import png, svg
from unite.figures.chart import Figure, Panel, Series
from unite.figures.looks import LIGHT
from unite.figures.marks import Disc, Drawing, Stroke, Words
from unite.figures.sheet import picture, sheet

SVG = "{http://www.w3.org/2000/svg}"


def panel(label="<b>", **fields) -> Panel:
    series = Series(label=label, points=[(1, 2.0), (2, 3.0)], **fields)
    return Panel(title="a & b", x_label="x", y_label="y", series=[series])


def pixels(drawing) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png.file(drawing))))


def rgb(name) -> tuple[int, ...]:
    return tuple(bytes.fromhex(LIGHT[name][1:]))


def test_a_chart_of_the_page_is_xml_with_names_escaped_and_a_name_for_screen_readers():
    root = Xml.fromstring(svg.inline(panel()))
    assert root.get("aria-label") == "a & b: y over x; <b>" and root.get("role") == "img"
    assert [node.text for node in root.iter() if node.tag == "title"] == ["<b>: 1, 2", "<b>: 2, 3"]
    assert "nothing to draw" in svg.inline(Panel(title="", x_label="", y_label="", series=[]))


def test_links_are_in_files_alone():
    linked = panel(links=["http://host/#/a?b=1&c=2", "second"])
    figure = Figure(panels=[linked])
    found = [node.get("href") for node in Xml.fromstring(picture(figure).svg).iter(f"{SVG}a")]
    assert found == ["http://host/#/a?b=1&c=2", "second"]
    assert "href" not in svg.inline(linked)


def test_a_file_is_the_same_each_time_and_as_large_as_its_sheet():
    figure = Figure(panels=[panel()] * 5, legend=[(0, "one")], title="t", caption="c")
    first, second = picture(figure), picture(figure)
    assert first == second
    drawing = sheet(figure)
    size = Image.open(io.BytesIO(first.png)).size
    assert size == (round(png.PIXELS * drawing.width), round(png.PIXELS * drawing.height))
    root = Xml.fromstring(first.svg)
    assert root.get("viewBox") == f"0 0 {drawing.width:g} {drawing.height:g}"
    words = ["".join(node.itertext()) for node in root.iter(f"{SVG}text")]
    assert {"t", "c", "one", "a & b"} <= set(words)


def test_five_panels_stand_in_rows_of_three_and_two():
    narrow, wide = (sheet(Figure(panels=[panel()] * number)).width for number in (1, 5))
    assert 3 * narrow < wide + 3 * 28 < 4 * narrow


def test_long_captions_and_legends_are_broken():
    caption, legend = "many words " * 40, [(index, "a long label" * 2) for index in range(7)]
    drawing = sheet(Figure(panels=[panel()], legend=legend, caption=caption))
    assert all(m.place[0] < drawing.width for m in drawing.marks if isinstance(m, Words))
    assert sum("many words" in m.text for m in drawing.marks if isinstance(m, Words)) > 4


def test_pixels_have_the_colours_and_places_of_the_marks():
    marks = [
        Stroke(look="part c1", pieces=[[(10, 10), (20, 10), (20, 20), (10, 20)]], closed=True),
        Disc(look="mark c2 hollow", center=(40.0, 15.0), radius=5.0),
        Stroke(look="line c0 dashed", pieces=[[(0, 30), (60, 30)]]),
    ]
    image_HWC = pixels(Drawing(width=60, height=40, marks=marks))

    def at(x, y):
        return tuple(image_HWC[round(y * png.PIXELS), round(x * png.PIXELS)])

    assert at(15, 15) == rgb("c1") and at(5, 5) == rgb("paper") == at(40, 15)
    assert at(45, 15) == rgb("c2")
    row = image_HWC[30 * png.PIXELS, :, 0]
    assert (row == 255).any() and (row < 128).any(), "dashes and gaps"


@pytest.mark.parametrize("look", ["tick", "tick end", "tick mid"])
def test_words_are_anchored_in_pixels_as_in_svg(look):
    words = Words(look=look, place=(50.0, 30.0), text="word")
    ink_HW = pixels(Drawing(width=100, height=40, marks=[words])).min(axis=2) < 200
    columns = np.flatnonzero(ink_HW.any(axis=0)) / png.PIXELS
    ends = {"tick": columns[0], "tick end": columns[-1], "tick mid": columns.mean()}
    assert ends[look] == pytest.approx(50.0, abs=1.5), "a letter's side bearing"


def test_bands_let_the_grid_shine_through():
    box = [[(0, 0), (20, 0), (20, 20), (0, 20)]]
    marks = [Stroke(look="band c1", pieces=box, closed=True)]
    found = pixels(Drawing(width=20, height=20, marks=marks))[20, 20].astype(int)
    mixed = [round(255 + 0.14 * (value - 255)) for value in rgb("c1")]
    assert np.abs(found - mixed).max() <= 1


def test_drawing_imports_neither_torch_nor_a_plotting_library():
    script = "import sys, unite.figures.sheet, unite.figures.dynamics; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {"torch", "matplotlib", "pandas"} & set(run.stdout.split())
