"""Curves of an evaluation, from a file beside its numbers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

ALIGNMENT_FILE = "alignment.json"
BLOCKS = {"cka": "Linear CKA", "cknna": "CKNNA", "cosine": "Cosine similarity"}
"""Curves over the blocks in Fig. 6: name -> label."""


@dataclass(frozen=True, kw_only=True)
class AlignmentCurves:
    """Fig. 6 of one run."""

    levels: Sequence[float]
    """Noise levels t."""
    num_images: int
    blocks: Mapping[str, Sequence[Sequence[float]]]
    """Name in BLOCKS -> curves over the blocks, one for each level."""
    latents: Sequence[float]
    """Cosine of the final latents, for each level."""

    @property
    def depth(self) -> int:
        """Number of blocks."""
        return len(self.blocks["cka"][0])


def parse_alignment(data: bytes) -> AlignmentCurves:
    """Curves in alignment.json; ValueError or KeyError for other contents."""
    content = json.loads(data)
    levels = [float(level) for level in content["config"]["levels"]]
    blocks = {name: np.asarray(content[name], dtype=float) for name in BLOCKS}
    latents = np.asarray(content["latent_cosine"], dtype=float)
    shape = blocks["cka"].shape
    whole = len(shape) == 2 and shape[0] == len(levels) and shape[1] > 0
    if not whole or latents.shape != shape[:1] or any(b.shape != shape for b in blocks.values()):
        raise ValueError(f"its curves are not of {len(levels)} noise levels and as many blocks")
    return AlignmentCurves(
        levels=levels,
        num_images=int(content["num_images"]),
        blocks={name: curves.tolist() for name, curves in blocks.items()},
        latents=latents.tolist(),
    )
