"""Alignment of tokenization and generation, block by block (METHOD 5; paper Fig. 6)."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import ClassVar

import torch

from unite.evaluation.chunks import Arrays, Chunk, partition
from unite.evaluation.dataset import Dataset, undecodable
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.figures.alignment import AlignmentCurves, alignment_figure
from unite.figures.sheet import picture
from unite.metrics.pathways import Alignment, AlignmentConfig, AlignmentSums

IMAGES_PER_CHUNK = 256
MOST_BYTES = 4 * 2**30
"""Largest size of all chunks, unless one per noise level is more: each holds three sums of H^2
for every block, 0.2 GB for Base, 0.9 GB for XL."""


@dataclass(frozen=True, kw_only=True)
class AlignmentSuite(Suite):
    """The first N held-out images through both pathways, one noise level in each chunk.

    A model of any size then has work for several workers, each with one level's sums at most.
    """

    suite: ClassVar[str] = "alignment"

    data: Dataset
    config: AlignmentConfig = field(default_factory=AlignmentConfig)

    @property
    def cost(self) -> float:
        """Passes per image and level."""
        return 2.0

    def chunks(self) -> tuple[Chunk, ...]:
        """Chunks of every level: enough for several workers, as few as the size of sums demands."""
        encoder, levels = self.subject.config.model.encoder, self._levels()
        bytes_of_one = 8 * 3 * encoder.depth * encoder.width**2
        affordable = MOST_BYTES // (len(levels) * bytes_of_one)
        wanted = math.ceil(self.total / IMAGES_PER_CHUNK)
        count = max(1, min(wanted, affordable))
        return tuple(chunk for label in levels for chunk in partition(label, self.total, count))

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Float64 sums of a chunk, and its share of the rows for CKNNA."""
        sums, model = AlignmentSums(self._levels()[chunk.label]), self.model(instruments)
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                sums.add(model, rows.sample, rows.rows_B, rows.labels_B)
        return sums.state()

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """Curves and their means."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parts = [self._level(label, chunks) for label in self._levels()]
        result = Alignment.of_levels(parts)
        plot = picture(alignment_figure({"model": AlignmentCurves.of(result.to_dict())}))
        fields = {
            "data": self.data.digest,
            "seed": self.config.seed,
            "num_samples": result.num_images,
            "details": {**asdict(self.config), "rows_under_cka": result.num_rows},
        }
        rows = [
            Row(card=self.card(name, value, **fields))
            for name, value in result.summary().items()
            if value == value  # NaN is told in a remark
        ]
        content = {**result.to_dict(), "card": self.card("alignment", 0.0, **fields).of_many()}
        told = dict.fromkeys(str(warning.message) for warning in caught)
        levels = ", ".join(f"{level:g}" for level in self.config.levels)
        return Outcome(
            suite=self.suite,
            protocol=f"t = {levels}; CKNNA with {self.config.neighbors} neighbours",
            rows=tuple(rows),
            remarks=(*told, *undecodable(self.data, self.total, result.num_images)),
            files={
                "alignment.png": plot.png,
                "alignment.svg": plot.svg,
                "alignment.json": json.dumps(content).encode(),
            },
        )

    def _levels(self) -> dict[str, AlignmentConfig]:
        """Label of chunks -> their settings: the suite's config at one noise level."""
        return {
            f"{self.suite}-t{level:g}": replace(self.config, levels=(level,))
            for level in self.config.levels
        }

    def _level(self, label: str, chunks: Sequence[Arrays]) -> Alignment:
        """The figures of one noise level."""
        config = self._levels()[label]
        sums = AlignmentSums(config)
        for index, chunk in enumerate(self.chunks()):
            if chunk.label == label:
                sums.merge(AlignmentSums.from_state(config, chunks[index]))
        return sums.result()
