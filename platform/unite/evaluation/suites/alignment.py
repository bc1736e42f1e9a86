"""Alignment of tokenization and generation, block by block (METHOD 5; paper Fig. 6).

Needs held-out samples. Shapes: B samples, K registers, D latent channels.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

from unite.domains import build_domain
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk, partition
from unite.evaluation.dataset import Dataset, undecodable
from unite.evaluation.instruments import Instruments, Rows
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Suite, analysis_fields
from unite.evaluation.target import Target
from unite.figures.alignment import AlignmentCurves, alignment_figure
from unite.figures.sheet import picture
from unite.lazy import torch
from unite.metrics.accumulator import Totals
from unite.metrics.pathways import Alignment, AlignmentConfig, AlignmentSums, Pass

if TYPE_CHECKING:
    from torch import Tensor

    from unite.models.unite import UNITE

IMAGES_PER_CHUNK = 256
MOST_BYTES = 4 * 2**30
"""Largest size of all chunks, unless one per noise level is more: each holds three sums of H^2
for every block, 0.2 GB for Base, 0.9 GB for XL."""


@dataclass(frozen=True, kw_only=True)
class AlignmentSuite(Suite):
    """The first N held-out samples through both pathways, one noise level in each chunk.

    A model of any size then has work for several workers, each with one level's sums at most.
    """

    suite: ClassVar[str] = "alignment"

    data: Dataset
    config: AlignmentConfig = field(default_factory=AlignmentConfig)

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request."""
        config = AlignmentConfig(seed=arguments.seed)
        return cls(config=config, **analysis_fields(arguments, target))

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

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Float64 sums of one level, and the rows for CKNNA."""
        return {label: AlignmentSums(self._levels()[label])}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Both passes of a chunk's rows."""
        sums, model = totals[chunk.label], self.model(instruments)
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                tokenization, generation = both_passes(sums.config, model, rows)
                sums.update(rows.rows_B, tokenization, generation, rows.mask_BK)

    def outcome(self, totals: Any) -> Outcome:
        """Curves and their means."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            parts = [totals[label].result() for label in self._levels()]
        result = Alignment.of_levels(parts)
        noun = build_domain(self.subject.config.domain).noun
        content = {**result.to_dict(), "noun": noun}
        plot = picture(alignment_figure({"model": AlignmentCurves.of(content)}))
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
        content |= {"card": self.card("alignment", 0.0, **fields).of_many()}
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


def both_passes(config: AlignmentConfig, model: UNITE, rows: Rows) -> tuple[Pass, Iterator[Pass]]:
    """Tokenization pass of a batch, and its generation pass at every level, made when it is read.

    ValueError when the generation pass is to see labels and there are none.
    """
    from unite.sampling.passes import condition_labels, denoise_rows, tokenize_rows

    labels_B = condition_labels(config.condition, rows.labels_B)
    x_blocks: list[Tensor] = []
    z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=config.seed, activations=x_blocks)

    def generation() -> Iterator[Pass]:
        """The generation pass at each level."""
        for t in config.levels:
            y_blocks: list[Tensor] = []
            z_hat_BKD = denoise_rows(
                model, z0_BKD, t, rows.rows_B,
                seed=config.seed, labels_B=labels_B, mask_BK=rows.mask_BK, activations=y_blocks,
            )  # fmt: skip
            yield z_hat_BKD, y_blocks

    return (z0_BKD, x_blocks), generation()
