"""Pictures of structures: shaded balls and bonds, the cell of a crystal; numpy alone.

All is painted as spheres into a depth buffer, a bond or an edge of a cell as a row of small ones.
"""

from __future__ import annotations

import itertools

import numpy as np

from unite.domains.atoms.elements import COLOURS, RADII
from unite.domains.atoms.structure import Structure

SIDE = 160
"""Height and width of a picture in pixels."""
OVERSAMPLING = 2
"""Factor by which a picture is painted larger and then averaged."""
BALL = 0.45
"""Radius of an atom's ball, in covalent radii and A beyond 0.15."""
STICK, EDGE = 0.09, 0.03
"""Radii in A of bonds and of the edges of a cell."""
STICK_COLOUR, EDGE_COLOUR = (150, 150, 150), (120, 130, 160)
MARGIN = 0.06
"""Share of the picture that stays empty on each side."""
SMALLEST_SPAN = 6.0
"""Width in A that a picture shows at least, so that small molecules look small."""
VIEW = np.array([[0.90, 0.43, 0.0], [-0.13, 0.27, 0.95], [0.41, -0.86, 0.30]])
"""Rows: right, up and towards the viewer, in the axes of a crystal."""


def picture(structure: Structure, tolerance: float) -> np.ndarray:
    """One structure, uint8 (SIDE, SIDE, 3), on white. What is not finite gives an empty picture."""
    canvas = Canvas(SIDE * OVERSAMPLING)
    spheres = _spheres(structure, tolerance)
    if np.isfinite(spheres).all() and len(spheres):
        low, high = spheres[:, :2].min(0), spheres[:, :2].max(0)
        span = max(float((high - low).max()) + 1.0, SMALLEST_SPAN) / (1 - 2 * MARGIN)
        scale = canvas.side / span
        middle = (low + high) / 2
        for x, y, z, radius, *rgb in spheres:
            place = (
                canvas.side / 2 + scale * (x - middle[0]),
                canvas.side / 2 - scale * (y - middle[1]),
            )
            canvas.paint(place, scale * z, scale * radius, np.array(rgb))
    return canvas.pixels(OVERSAMPLING)


class Canvas:
    """A square picture with a depth for every pixel."""

    def __init__(self, side: int) -> None:
        self.side = side
        self._colours = np.full((side, side, 3), 255.0)
        self._depth = np.full((side, side), -np.inf)

    def paint(
        self, place: tuple[float, float], depth: float, radius: float, rgb: np.ndarray
    ) -> None:
        """A sphere of `radius` pixels at (x, y) pixels, lit from the upper left of the viewer."""
        x, y = place
        left, right = max(int(x - radius), 0), min(int(x + radius) + 2, self.side)
        top, bottom = max(int(y - radius), 0), min(int(y + radius) + 2, self.side)
        if left >= right or top >= bottom:
            return
        across = (np.arange(left, right) - x) / radius
        down = (np.arange(top, bottom)[:, None] - y) / radius
        height2 = 1 - across**2 - down**2
        height = np.sqrt(np.maximum(height2, 0))
        window = (slice(top, bottom), slice(left, right))
        seen = (height2 > 0) & (depth + radius * height > self._depth[window])
        shade = 0.45 + 0.55 * np.clip(-0.45 * across - 0.55 * down + 0.7 * height, 0, 1)
        colours = shade[..., None] * rgb
        self._colours[window][seen] = colours[seen]
        self._depth[window][seen] = (depth + radius * height)[seen]

    def pixels(self, factor: int) -> np.ndarray:
        """The picture averaged over squares of `factor` pixels, uint8."""
        small = self.side // factor
        blocks = self._colours.reshape(small, factor, small, factor, 3)
        return np.clip(blocks.mean((1, 3)), 0, 255).astype(np.uint8)


def _spheres(structure: Structure, tolerance: float) -> np.ndarray:
    """Spheres of a structure as rows x, y, z, radius (A), r, g, b; x right, y up, z to the eye."""
    positions = np.asarray(structure.positions, np.float64)
    corners = cell_corners(structure.cell)
    view = VIEW if len(corners) else _flattest(positions)
    atoms = positions @ view.T
    radii = 0.15 + BALL * RADII[structure.numbers]
    parts = [np.column_stack([atoms, radii, COLOURS[structure.numbers]])]
    parts += [
        _row(atoms[i], atoms[j], STICK, STICK_COLOUR) for i, j in _bonded(structure, tolerance)
    ]
    corners = corners @ view.T
    parts += [_row(corners[i], corners[j], EDGE, EDGE_COLOUR) for i, j in cell_edges(len(corners))]
    return np.concatenate(parts)


def _bonded(structure: Structure, tolerance: float) -> list[tuple[int, int]]:
    """Pairs of bonded atoms within the picture."""
    return [(int(i), int(j)) for i, j in np.argwhere(np.triu(structure.bonds(tolerance)))]


def _flattest(positions: np.ndarray) -> np.ndarray:
    """Axes (3, 3) under which a molecule shows its largest face; right-handed, never mirrored."""
    centred = positions - positions.mean(0)
    if not np.isfinite(centred).all():
        return np.eye(3)
    axes = np.linalg.svd(centred, full_matrices=True)[2]
    axes = axes * np.where(axes[np.arange(3), np.abs(axes).argmax(1)] < 0, -1, 1)[:, None]
    if np.linalg.det(axes) < 0:
        axes[2] *= -1
    return axes


def cell_corners(cell: np.ndarray | None) -> np.ndarray:
    """The eight corners of a cell, (8, 3); none of none, (0, 3)."""
    if cell is None:
        return np.zeros((0, 3))
    return np.array(list(itertools.product((0, 1), repeat=3))) @ cell


def cell_edges(num_corners: int) -> list[tuple[int, int]]:
    """Pairs of corners that an edge joins: those whose indices differ in one bit."""
    pairs = itertools.combinations(range(num_corners), 2)
    return [(i, j) for i, j in pairs if (i ^ j).bit_count() == 1]


def _row(
    start: np.ndarray, end: np.ndarray, radius: float, rgb: tuple[int, int, int]
) -> np.ndarray:
    """Spheres along a line, half a radius apart."""
    if not np.isfinite(end - start).all():
        return np.full((1, 7), np.nan)
    steps = max(2, int(np.ceil(np.linalg.norm(end - start) / (0.6 * radius))))
    along = np.linspace(0, 1, min(steps, 400))[:, None]
    points = start + along * (end - start)
    rest = np.broadcast_to(np.array([radius, *rgb]), (len(points), 4))
    return np.concatenate([points, rest], axis=1)
