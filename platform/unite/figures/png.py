"""Drawings as PNG, filled by Pillow: the marks of the SVG in its light colours.

Marks are drawn larger and averaged down, which smooths their edges. The font is Pillow's own, so
that a picture does not depend on the machine's.
"""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, ImageColor, ImageDraw, ImageFont

from unite.figures.looks import LIGHT, resolved
from unite.figures.marks import Disc, Drawing, Mark, Place, Stroke, Words, dashes

PIXELS = 2
"""Pixels of the file for each unit of the drawing."""
SMOOTHING = 3
"""Pixels that are drawn for each pixel of the file, in both directions."""
FACTOR = PIXELS * SMOOTHING
ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
"""Anchor of text in SVG -> Pillow's: left, middle, right; baseline."""
Color = tuple[int, int, int, int]


def file(drawing: Drawing) -> bytes:
    """A drawing as a PNG file; the same bytes for the same drawing and Pillow."""
    size = (round(drawing.width * FACTOR), round(drawing.height * FACTOR))
    canvas = Image.new("RGB", size, LIGHT["paper"])
    pen = ImageDraw.Draw(canvas, "RGBA")
    for mark in drawing.marks:
        _draw(pen, mark)
    out = io.BytesIO()
    canvas.reduce(SMOOTHING).save(out, format="PNG", optimize=True)
    return out.getvalue()


def _draw(pen: ImageDraw.ImageDraw, mark: Mark) -> None:
    look = resolved(mark.look)
    fill, stroke = (_color(look, name) for name in ("fill", "stroke"))
    width = max(1, round(float(look.get("stroke-width", 1.0)) * FACTOR)) if stroke else 0
    if isinstance(mark, Words):
        anchor = ANCHORS[str(look.get("text-anchor", "start"))]
        pen.text(_scaled(mark.place), mark.text, fill, _font(float(look["font-size"])), anchor)
    elif isinstance(mark, Disc):
        (x, y), radius = _scaled(mark.center), mark.radius * FACTOR + width / 2
        box = (x - radius, y - radius, x + radius, y + radius)
        pen.ellipse(box, fill=fill, outline=stroke, width=width)
    else:
        _strokes(pen, mark, fill, stroke, width, float(look.get("stroke-dasharray", 0.0)))


def _strokes(
    pen: ImageDraw.ImageDraw,
    mark: Stroke,
    fill: Color | None,
    stroke: Color | None,
    width: int,
    dash: float,
) -> None:
    for piece in mark.pieces:
        if mark.closed and fill:
            pen.polygon([_scaled(place) for place in piece], fill=fill)
        if stroke:
            whole = [*piece, *piece[:2]] if mark.closed else piece
            for part in dashes(whole, dash) if dash else [whole]:
                pen.line([_scaled(place) for place in part], stroke, width, joint="curve")


def _color(look: dict[str, str | float], name: str) -> Color | None:
    value = look.get(name)
    if value in (None, "none") or (name == "stroke" and look.get("stroke-width") == 0.0):
        return None
    red, green, blue = ImageColor.getrgb(str(value))[:3]
    return red, green, blue, round(255 * float(look.get("opacity", 1.0)))


def _scaled(place: Place) -> Place:
    return place[0] * FACTOR, place[1] * FACTOR


@cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * FACTOR)
