"""Alignment of tokenization and generation, block by block (METHOD 5; paper Fig. 6)."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import torch

from unite.evaluation.chunks import Arrays, Chunk, partition
from unite.evaluation.dataset import Dataset
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.metrics.alignment import AlignmentConfig, AlignmentSums

IMAGES_PER_CHUNK = 256
MOST_BYTES = 2 * 2**30
"""Of all chunks together: each holds sums over blocks, levels and H^2, 0.6 GB for Base."""


@dataclass(frozen=True, kw_only=True)
class AlignmentSuite(Suite):
    """The first N held-out images through both pathways."""

    suite: ClassVar[str] = "alignment"

    data: Dataset
    config: AlignmentConfig = field(default_factory=AlignmentConfig)

    @property
    def cost(self) -> float:
        """Passes per image."""
        return 1.0 + len(self.config.levels)

    def chunks(self) -> tuple[Chunk, ...]:
        """As many as leave something to share, as few as their sums allow."""
        encoder = self.subject.config.model.encoder
        matrices = encoder.depth * (1 + 2 * len(self.config.levels))
        affordable = MOST_BYTES // (8 * matrices * encoder.width**2)
        wanted = math.ceil(self.total / IMAGES_PER_CHUNK)
        return partition(self.suite, self.total, max(1, min(wanted, affordable)))

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Float64 sums of a chunk, and its share of the rows for CKNNA."""
        sums, model = AlignmentSums(self.config), self.model(instruments)
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                sums.add(model, rows.sample, rows.rows_B, rows.labels_B)
        return sums.state()

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """Curves and their means."""
        # Here, because matplotlib takes a second to import and workers do not need it.
        from unite.metrics.plots import plot_alignment

        sums = AlignmentSums(self.config)
        for chunk in chunks:
            sums.merge(AlignmentSums.from_state(self.config, chunk))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = sums.result()
        picture = plot_alignment({"model": result})
        details = {**asdict(self.config), "rows_under_cka": result.num_rows}
        rows = [
            Row(card=self.card(name, value, data=self.data.digest, details=details))
            for name, value in result.summary().items()
            if value == value  # NaN is told in a remark
        ]
        levels = ", ".join(f"{level:g}" for level in self.config.levels)
        return Outcome(
            suite=self.suite,
            protocol=f"t = {levels}; CKNNA with {self.config.neighbors} neighbours",
            rows=tuple(rows),
            remarks=tuple(str(warning.message) for warning in caught),
            files={
                "alignment.png": picture.png,
                "alignment.svg": picture.svg,
                "alignment.json": json.dumps(result.to_dict()).encode(),
            },
        )
