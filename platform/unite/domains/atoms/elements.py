"""The elements: symbols, covalent radii and colours, by atomic number.

Radii: Cordero et al., Dalton Trans. 2008, 2832, Table 2 (C: sp3; Mn, Fe, Co: low spin). Colours:
the usual ones of common elements (grey carbon, red oxygen), hues of their own for the others.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable

import numpy as np

MAX_ELEMENTS = 100
"""Rows of the table of types: atomic numbers 1..99; row 0 is no element and never a target."""

SYMBOLS = (
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf "
    "Es"
).split()

_RADII_PM = (
    "31 28 128 96 84 76 71 66 57 58 166 141 121 111 107 105 102 106 203 176 170 160 153 139 139 "
    "132 126 124 132 122 122 120 119 120 120 116 220 195 190 175 164 154 147 146 142 139 145 144 "
    "142 139 139 138 139 140 244 215 207 204 203 201 199 198 198 196 194 192 192 189 190 187 187 "
    "175 170 162 151 144 141 136 136 132 145 146 148 140 150 150 260 221 215 206 200 196 190 187 "
    "180 169"
)
RADII = np.array([0.0, *(int(pm) / 100 for pm in _RADII_PM.split()), 1.68, 1.68, 1.65], np.float32)
"""Covalent radii in A, (100,). Cordero ends at curium: the last three are Pyykko's (2009)."""

_MASSES = (
    "1.008 4.003 6.941 9.012 10.812 12.011 14.007 15.999 18.998 20.18 22.99 24.305 26.982 28.086 "
    "30.974 32.067 35.453 39.948 39.098 40.078 44.956 47.867 50.944 51.996 54.938 55.845 58.933 "
    "58.693 63.546 65.39 69.723 72.61 74.922 78.96 79.904 83.8 85.468 87.62 88.906 91.224 92.906 "
    "95.94 98 101.07 102.906 106.42 107.868 112.412 114.818 118.711 121.76 127.6 126.904 131.29 "
    "132.905 137.328 138.906 140.116 140.908 144.24 145 150.36 151.964 157.25 158.925 162.5 "
    "164.93 167.26 168.934 173.04 174.967 178.49 180.948 183.84 186.207 190.23 192.217 195.078 "
    "196.967 200.59 204.383 207.2 208.98 209 210 222 223 226 227 232.038 231.036 238.029 237 244 "
    "243 247 247 251 252"
)
MASSES = np.array([0.0, *map(float, _MASSES.split())])
"""Standard atomic weights (IUPAC) in u, float64 (100,); else of the longest-lived isotope."""

_COLOURS = {
    1: (235, 235, 235),
    6: (95, 95, 95),
    7: (60, 90, 220),
    8: (215, 45, 45),
    9: (120, 200, 70),
    15: (235, 135, 35),
    16: (230, 200, 50),
    17: (60, 180, 60),
    35: (150, 60, 40),
    53: (120, 40, 140),
}


def colour(number: int) -> tuple[int, int, int]:
    """Red, green and blue of an element, 0..255; a hue of its own for those without a custom."""
    if number in _COLOURS:
        return _COLOURS[number]
    hue = (number * 0.381966) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.45 + 0.1 * (number % 3), 0.85)
    return round(255 * red), round(255 * green), round(255 * blue)


COLOURS = np.array([colour(number) for number in range(MAX_ELEMENTS)], np.uint8)
"""Colours of the elements, uint8 (100, 3)."""


def formula(numbers: Iterable[int]) -> str:
    """Formula in Hill's order: carbon, hydrogen, then by the alphabet (CH4O, ClNa)."""
    counts: dict[str, int] = {}
    for number in numbers:
        symbol = SYMBOLS[number]
        counts[symbol] = counts.get(symbol, 0) + 1
    first = ("C", "H") if "C" in counts else ()
    order = [*(s for s in first if s in counts), *sorted(s for s in counts if s not in first)]
    return "".join(symbol + (str(counts[symbol]) if counts[symbol] > 1 else "") for symbol in order)
