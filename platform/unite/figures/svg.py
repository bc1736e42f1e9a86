"""Drawings as SVG: inside the page, whose style sheet colours them, or as files."""

from __future__ import annotations

from markupsafe import Markup, escape

from unite.figures.chart import Bars, Panel
from unite.figures.draw import draw
from unite.figures.looks import standalone_css
from unite.figures.marks import Disc, Drawing, Mark, Stroke, key

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'


def inline(panel: Panel | Bars) -> Markup:
    """A panel for the page; its title and series are read out by screen readers."""
    drawing = draw(panel)
    if not drawing.marks:
        return Markup("<p class=empty>nothing to draw</p>")
    marks = Markup("").join(_mark(mark, linked=False) for mark in drawing.marks)
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    ).format(_number(drawing.width), _number(drawing.height), drawing.words, marks)


def inline_key(index: int | str) -> Markup:
    """Entry of a legend for the page."""
    drawn = Markup("").join(_mark(mark, linked=False) for mark in key(index))
    return Markup('<svg class="key" viewBox="0 0 26 12" aria-hidden="true">{}</svg>').format(drawn)


def file(drawing: Drawing) -> bytes:
    """A drawing as an SVG file on white, with links; the same bytes for the same drawing."""
    width, height = _number(drawing.width), _number(drawing.height)
    marks = Markup("\n").join(_mark(mark, linked=True) for mark in drawing.marks)
    text = Markup(
        '{}<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w} {h}" width="{w}" height="{h}" '
        'role="img" aria-label="{}">\n<style>\n{}\n</style>\n'
        '<rect width="100%" height="100%" fill="#ffffff"/>\n{}\n</svg>\n'
    ).format(Markup(HEAD), drawing.words, Markup(standalone_css()), marks, w=width, h=height)
    return text.encode()


def _mark(mark: Mark, *, linked: bool) -> Markup:
    if isinstance(mark, Stroke):
        drawn = Markup('<path class="{}" d="{}"/>').format(mark.look, _path(mark))
    elif isinstance(mark, Disc):
        x, y = (_number(value) for value in mark.center)
        drawn = Markup('<circle class="{}" cx="{}" cy="{}" r="{}"/>').format(
            mark.look, x, y, mark.radius
        )
    else:
        x, y = (_number(value) for value in mark.place)
        return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(mark.look, x, y, mark.text)
    if mark.title:
        drawn = Markup("<g>{}<title>{}</title></g>").format(drawn, escape(mark.title))
    if linked and mark.link:
        drawn = Markup('<a href="{}">{}</a>').format(mark.link, drawn)
    return drawn


def _path(stroke: Stroke) -> str:
    end = "Z" if stroke.closed else ""
    return "".join(
        "M" + "L".join(f"{_number(x)},{_number(y)}" for x, y in piece) + end
        for piece in stroke.pieces
    )


def _number(value: float) -> str:
    return f"{value:.6g}"
