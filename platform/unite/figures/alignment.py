"""Alignment of tokenization and generation (paper Fig. 6): by block, and of the final latents."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from unite.figures.chart import TIME, Figure, Panel, Points, Series
from unite.words import count

BLOCKS = {"cka": "Linear CKA", "cknna": "CKNNA", "cosine": "Cosine similarity"}
"""Curves over the blocks: name in alignment.json -> label."""
SAME = "1 = same"
MOST_TICKS = 12
NO_LEVEL = 6
"""Colour of a line over the levels, where the others are each of one level."""


@dataclass(frozen=True, kw_only=True)
class AlignmentCurves:
    """Fig. 6 of one model, as alignment.json holds it."""

    levels: Sequence[float]
    """Noise levels t."""
    facts: str
    """Sample sizes and settings in words."""
    blocks: Mapping[str, Sequence[Sequence[float]]]
    """Name in BLOCKS -> curves over the blocks, one for each level."""
    latents: Sequence[float]
    """Cosine of the final latents, for each level."""

    @classmethod
    def read(cls, data: bytes) -> AlignmentCurves:
        """Curves in alignment.json; ValueError or KeyError for other contents."""
        return cls.of(json.loads(data))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> AlignmentCurves:
        """Curves of the parsed file."""
        levels = [float(level) for level in content["config"]["levels"]]
        blocks = {name: np.asarray(content[name], dtype=float) for name in BLOCKS}
        latents = np.asarray(content["latent_cosine"], dtype=float)
        shape = blocks["cka"].shape
        whole = len(shape) == 2 and shape[0] == len(levels) and shape[1] > 0
        if (
            not whole
            or latents.shape != shape[:1]
            or any(b.shape != shape for b in blocks.values())
        ):
            raise ValueError(f"its curves are not of {len(levels)} noise levels and as many blocks")
        return cls(
            levels=levels,
            facts=_facts(content),
            blocks={name: curves.tolist() for name, curves in blocks.items()},
            latents=latents.tolist(),
        )

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks["cka"][0])


def alignment_figure(results: Mapping[str, AlignmentCurves]) -> Figure:
    """Fig. 6. One model: a line per noise level. Several, named by the keys: a line per model, its
    mean over the noise levels, in a band from the least to the greatest."""
    depth = max(curves.depth for curves in results.values())
    step = -(-depth // MOST_TICKS)
    ticks = [(float(block), str(block)) for block in range(1, depth + 1, step)]
    blocks = {name: _by_block(results, name) for name in BLOCKS}
    latents = [
        Series(
            label=label,
            points=list(zip(curves.levels, curves.latents, strict=True)),
            index=index if len(results) > 1 else NO_LEVEL,
        )
        for index, (label, curves) in enumerate(results.items())
    ]
    panels = [
        Panel(
            title=f"{words} of registers", x_label="block", y_label=SAME, series=blocks[name],
            x_ticks=ticks, holds_y=(0.0, 1.0),
        )
        for name, words in BLOCKS.items()
    ]  # fmt: skip
    panels.append(
        Panel(
            title="Cosine of final latents",
            x_label=TIME,
            y_label=SAME,
            series=latents,
            holds_y=(0.0, 1.0),
        )  # fmt: skip
    )
    facts = "; ".join(dict.fromkeys(curves.facts for curves in results.values()))
    bands = "lines are means over the noise levels, bands reach from the least to the greatest"
    return Figure(
        panels=panels,
        legend=[(series.index, series.label) for series in blocks["cka"]],
        caption=f"{facts}; {bands}" if len(results) > 1 else facts,
    )


def _by_block(results: Mapping[str, AlignmentCurves], name: str) -> list[Series]:
    if len(results) > 1:
        return [
            _mean(label, curves.blocks[name], index)
            for index, (label, curves) in enumerate(results.items())
        ]
    (curves,) = results.values()
    return [
        Series(label=f"t = {level:g}", points=_numbered(curve), index=index)
        for index, (level, curve) in enumerate(zip(curves.levels, curves.blocks[name], strict=True))
    ]


def _mean(label: str, curves: Sequence[Sequence[float]], index: int) -> Series:
    columns = list(zip(*curves, strict=True))
    return Series(
        label=label,
        points=_numbered([sum(column) / len(column) for column in columns]),
        index=index,
        band=[(min(column), max(column)) for column in columns],
    )


def _numbered(curve: Sequence[float]) -> Points:
    return [(float(block), value) for block, value in enumerate(curve, start=1)]


def _facts(content: Mapping[str, Any]) -> str:
    """Sample sizes and settings, as far as the file has them."""
    config = content["config"]
    facts = [count(int(content["num_images"]), content.get("noun", "image"))]
    facts += [f"rows: {config['rows']}s"] if "rows" in config else []
    if "neighbors" in config and "num_neighbor_rows" in content:
        facts.append(f"CKNNA: k = {config['neighbors']} of {content['num_neighbor_rows']} rows")
    facts += [f"class: {config['condition']}"] if "condition" in config else []
    return ", ".join(facts)
