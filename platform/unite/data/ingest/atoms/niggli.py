"""Niggli reduction of a cell: its shortest three vectors, chosen uniquely.

Krivy and Gruber, Acta Cryst. A32 (1976) 297, with the tolerant comparisons of Grosse-Kunstleve,
Sauter and Adams, Acta Cryst. A60 (2004) 1. A step is an integer matrix of determinant 1, so that
handedness and the volume stay.
"""

from __future__ import annotations

import numpy as np

from unite.domains.atoms.featurise import SMALLEST_LENGTH, SMALLEST_VOLUME

TOLERANCE = 1e-5
"""Differences of squared lengths that count as none, in units of the cube root of the volume."""
MOST_STEPS = 200


def reduce_cell(cell_33: np.ndarray) -> np.ndarray:
    """Integer matrix M (3, 3) that makes the reduced cell: rows of M @ `cell_33` are its vectors.

    Fractional coordinates become frac @ inv(M). ValueError for a cell that does not come to rest.
    """
    margin = TOLERANCE * abs(np.linalg.det(cell_33)) ** (1 / 3)
    total = np.eye(3, dtype=np.int64)
    for _ in range(MOST_STEPS):
        step = _next_step(total @ cell_33, margin)
        if step is None:
            return total
        total = np.array(step, np.int64).T @ total
    raise ValueError(f"bad_cell: no Niggli reduction within {MOST_STEPS} steps")


def cell_vectors(lengths: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Vectors (rows, A) of a cell of these lengths (A) and angles (degrees): a along x, b in the
    plane of x and y, right-handed.

    ValueError for numbers that are not finite, too short a length, or angles that span no volume.
    """
    for name, values in (("lengths", lengths), ("angles", angles)):
        if len(values) != 3:
            raise ValueError(f"shape: {name} holds {len(values)} numbers, not 3")
        if not np.isfinite(values).all():
            raise ValueError(f"nonfinite: {name} {list(map(float, values))}")
    if not (lengths > SMALLEST_LENGTH).all():
        raise ValueError(f"bad_cell: lengths {lengths.tolist()} A must be above {SMALLEST_LENGTH}")
    if not ((angles > 0) & (angles < 180)).all():
        raise ValueError(f"bad_cell: angles {angles.tolist()} must lie between 0 and 180")
    alpha, beta, gamma = np.radians(angles)
    a, b, c = lengths
    along_y = (np.cos(alpha) - np.cos(beta) * np.cos(gamma)) / np.sin(gamma)
    squared = 1 - np.cos(beta) ** 2 - along_y**2
    upward = np.sqrt(max(squared, 0.0))
    if not a * b * np.sin(gamma) * c * upward >= SMALLEST_VOLUME:
        raise ValueError(f"bad_cell: angles {angles.tolist()} span no volume")
    return np.array(
        [
            [a, 0.0, 0.0],
            [b * np.cos(gamma), b * np.sin(gamma), 0.0],
            [c * np.cos(beta), c * along_y, c * upward],
        ]
    )


def cell_parameters(cell_33: np.ndarray) -> dict[str, np.ndarray]:
    """`lengths` and `angles` (degrees) of a cell; a left-handed one loses its handedness.

    ValueError for vectors that are not finite or have no length.
    """
    lengths = np.linalg.norm(cell_33, axis=1)
    if not (np.isfinite(lengths).all() and (lengths > 0).all()):
        raise ValueError(f"bad_cell: vectors of lengths {lengths.tolist()} A")
    units = cell_33 / lengths[:, None]
    cosines = [units[i] @ units[j] for i, j in ((1, 2), (0, 2), (0, 1))]
    # Rounding leaves right angles a little off, which would make other cells of equal ones.
    return {"lengths": lengths, "angles": np.degrees(np.arccos(np.clip(cosines, -1, 1))).round(10)}


def _next_step(cell_33: np.ndarray, margin: float) -> list[list[int]] | None:
    """The next step, whose columns hold the new vectors in the old ones; None at the end."""
    metric = cell_33 @ cell_33.T
    a, b, c = np.diag(metric)
    xi, eta, zeta = 2 * metric[1, 2], 2 * metric[0, 2], 2 * metric[0, 1]

    def above(one: float, other: float) -> bool:
        return bool(one > other + margin)

    def equal(one: float, other: float) -> bool:
        return bool(abs(one - other) <= margin)

    if above(a, b) or (equal(a, b) and above(abs(xi), abs(eta))):
        return [[0, -1, 0], [-1, 0, 0], [0, 0, -1]]
    if above(b, c) or (equal(b, c) and above(abs(eta), abs(zeta))):
        return [[-1, 0, 0], [0, 0, -1], [0, -1, 0]]
    signs = _signs([xi, eta, zeta], margin)
    if signs != [1, 1, 1]:
        return np.diag(signs).tolist()
    for length, angle, second, third, place in (
        (b, xi, eta, zeta, (1, 2)),
        (a, eta, xi, zeta, (0, 2)),
        (a, zeta, xi, eta, (0, 1)),
    ):
        too_far = (
            above(abs(angle), length)
            or (equal(angle, length) and above(third, 2 * second))
            or (equal(angle, -length) and above(0, third))
        )
        if too_far:
            step = np.eye(3, dtype=int)
            step[place] = -1 if angle > 0 else 1
            return step.tolist()
    total = xi + eta + zeta + a + b
    if above(0, total) or (equal(total, 0) and above(2 * (a + eta) + zeta, 0)):
        return [[1, 0, 1], [0, 1, 1], [0, 0, 1]]
    return None


def _signs(products: list[float], margin: float) -> list[int]:
    """Signs of the three vectors that make all products positive, or all not positive."""
    around = [0 if abs(value) <= margin else (1 if value > 0 else -1) for value in products]
    if around[0] * around[1] * around[2] > 0:
        return around
    signs = [-1 if sign > 0 else 1 for sign in around]
    if signs[0] * signs[1] * signs[2] < 0:
        # One of them is free, since its product is none; without such all would be positive.
        signs[max(index for index, sign in enumerate(around) if sign == 0)] = -1
    return signs
