"""Looks of marks: CSS of the page and of SVG files, and the same for pixels.

A mark's look is a few words, such as "line c0 dashed". Colours are those of Okabe and Ito, a little
darker where they stand on white: the colour-blind can tell them apart, and series differ in marker
as well. The page sets the variables anew for the dark.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

COLORS = 7
"""Number of colours, c0 ... c6."""
LIGHT = {
    "paper": "#ffffff", "ink": "#1b1d21", "muted": "#5d636b", "line": "#dcdfe3",
    "c0": "#0072b2", "c1": "#d55e00", "c2": "#009e73", "c3": "#b8588f", "c4": "#c98500",
    "c5": "#3d9fd6", "c6": "#1b1d21",
}  # fmt: skip
"""Variable of the page -> colour on white paper."""
FONT = "system-ui, 'Helvetica Neue', Arial, sans-serif"
Look = Mapping[str, str | float]

LOOKS: Mapping[str, Look] = {
    "grid": {"stroke": "line", "stroke-width": 0.7, "fill": "none"},
    "axis": {"stroke": "muted", "stroke-width": 1.0, "fill": "none"},
    "line": {"stroke": "c", "stroke-width": 1.6, "fill": "none", "stroke-linejoin": "round"},
    "dashed": {"stroke-dasharray": 4.0},
    "band": {"fill": "c", "opacity": 0.14},
    "mark": {"fill": "c", "stroke": "c", "stroke-width": 1.3},
    "hollow": {"fill": "paper"},
    "faint": {"opacity": 0.5, "stroke-width": 0.0},
    "part": {"fill": "c"},
    "rest": {"fill": "muted", "opacity": 0.55},
    "tick": {"fill": "muted", "font-size": 10.5},
    "name": {"fill": "muted", "font-size": 10.5},
    "heading": {"fill": "ink", "font-size": 12.0},
    "end": {"text-anchor": "end"},
    "mid": {"text-anchor": "middle"},
}
"""Word -> its CSS properties; later words of a look overrule earlier ones. `c` is the colour of the
words c0 ... c6, `stroke-dasharray` the length of dashes and of gaps."""
NUMBERS_WITH_UNIT = {"font-size": "px"}


def css() -> str:
    """Style sheet of the marks, in the page's variables."""
    colors = [f".c{index} {{ --c: var(--c{index}); }}" for index in range(COLORS)]
    return "\n".join([*colors, *(f".{word} {{ {_css(look)} }}" for word, look in LOOKS.items())])


def standalone_css() -> str:
    """The same for a file of its own, with light colours."""
    variables = " ".join(f"--{name}: {color};" for name, color in LIGHT.items())
    return f"svg {{ {variables} font-family: {FONT}; }}\n{css()}"


@cache
def resolved(look: str) -> dict[str, str | float]:
    """Properties of a look with colours as #rrggbb; ValueError for a word that is none."""
    found: dict[str, str | float] = {}
    color = LIGHT["c0"]
    for word in look.split():
        if word in LOOKS:
            found |= LOOKS[word]
        elif word in LIGHT:
            color = LIGHT[word]
        else:
            raise ValueError(f"look {look!r}: {word!r} is none of {', '.join((*LOOKS, *LIGHT))}")
    return {name: color if value == "c" else LIGHT.get(str(value), value)
            for name, value in found.items()}  # fmt: skip


def _css(look: Look) -> str:
    return " ".join(
        f"{name}: {f'var(--{value})' if value == 'c' or value in LIGHT else value}"
        f"{NUMBERS_WITH_UNIT.get(name, '')};"
        for name, value in look.items()
    )
