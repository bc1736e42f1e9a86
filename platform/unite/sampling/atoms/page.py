"""The page of samples: one self-contained HTML file, a sortable table of turnable pictures."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import numpy as np

from unite.domains.atoms.elements import COLOURS, RADII
from unite.domains.atoms.picture import BALL, SMALLEST_SPAN, cell_corners, cell_edges
from unite.domains.atoms.structure import Structure
from unite.domains.atoms.verdicts.native import Verdict

COLUMNS = ("index", "formula", "atoms", "verdict", "reason", "seed")
VERDICT = COLUMNS.index("verdict")


def page(
    structures: Sequence[Structure],
    seeds: Sequence[int],
    verdicts: Sequence[Verdict],
    *,
    title: str,
    lead: str,
    tolerance_of: Callable[[Structure], float],
) -> str:
    """HTML that opens from disk without a network: pictures, formulas, sizes, verdicts, seeds.

    `lead` is the sentence below the title; `tolerance_of` gives that of bonds, in A.
    """
    samples = [
        {
            **_drawn(structure, tolerance_of(structure)),
            "good": verdict.good,
            "cells": [
                *(index, structure.formula, len(structure.numbers)),
                *(verdict.text, verdict.reason, str(seed)),
            ],
        }
        for index, (structure, seed, verdict) in enumerate(
            zip(structures, seeds, verdicts, strict=True)
        )
    ]
    present = sorted({int(number) for each in structures for number in each.numbers})
    elements = {
        str(number): [COLOURS[number].tolist(), round(0.15 + BALL * float(RADII[number]), 3)]
        for number in present
    }
    data = {"columns": COLUMNS, "verdict": VERDICT, "elements": elements, "samples": samples}
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    template = files("unite.sampling.atoms").joinpath("page.html").read_text(encoding="utf-8")
    filled = template.replace("__TITLE__", html.escape(title)).replace(
        "__LEAD__", html.escape(lead)
    )
    return filled.replace("__DATA__", text)


def _drawn(structure: Structure, tolerance: float) -> dict[str, Any]:
    """Atoms, bonds and edges of the cell in A around the middle, and the reach from it.

    Nothing where a number is not finite: the picture stays empty.
    """
    positions = np.array(structure.positions, float)
    corners = cell_corners(structure.cell)
    everything = np.concatenate([positions, corners])
    if not np.isfinite(everything).all():
        return {"numbers": [], "atoms": [], "bonds": [], "edges": [], "reach": 1}
    middle = (everything.min(0) + everything.max(0)) / 2
    edges = [[corners[i] - middle, corners[j] - middle] for i, j in cell_edges(len(corners))]
    return {
        "numbers": np.asarray(structure.numbers).tolist(),
        "atoms": (positions - middle).round(3).tolist(),
        "bonds": np.argwhere(np.triu(structure.bonds(tolerance))).tolist(),
        "edges": np.array(edges).round(3).tolist(),
        "reach": max(
            SMALLEST_SPAN / 2,
            round(float(np.linalg.norm(everything - middle, axis=1).max()) + 0.5, 3),
        ),
    }
