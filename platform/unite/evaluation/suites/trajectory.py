"""Predictions of the generation pathway at several noise levels (METHOD 5; paper Fig. 7).

Needs held-out samples. Shapes: B samples, K registers, H height and W width of pictures.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from unite.domains import build_domain
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import Dataset, undecodable
from unite.evaluation.instruments import Instruments, Rows
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Suite, analysis_fields
from unite.evaluation.target import Target
from unite.figures import sheet
from unite.figures.trajectory import TrajectoryCurve, to_the_input, trajectory_figure
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Sums, Totals
from unite.metrics.noise_levels import TrajectoryConfig, level_means, level_sums
from unite.sampling.grid import image_grid, png

if TYPE_CHECKING:
    from unite.domains import Domain
    from unite.models.unite import UNITE

SHOWN = 8
"""Number of images in the picture."""


@dataclass(frozen=True, kw_only=True)
class TrajectorySuite(Suite):
    """The first N held-out samples, noised, predicted and decoded."""

    suite: ClassVar[str] = "trajectory"

    data: Dataset
    config: TrajectoryConfig = field(default_factory=TrajectoryConfig)

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request."""
        config = TrajectoryConfig(seed=arguments.seed)
        return cls(config=config, **analysis_fields(arguments, target))

    @property
    def cost(self) -> float:
        """Passes per image."""
        return 2.0 + 2.0 * len(self.config.levels)

    @property
    def metric(self) -> str:
        """The domain's measure of a reconstruction's quality."""
        return build_domain(self.subject.config.domain).best_metric

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Sums of the domain's metrics, and the picture."""
        return {"sums/": Sums(), "picture": Stack("picture")}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Decode the predictions of a chunk's rows; the first chunk also draws the picture."""
        model, domain = self.model(instruments), self.domain(instruments)
        drawn = chunk.index > 0
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                decoded = decode_levels(self.config, model, rows)
                qualities = [domain.reconstruction_metrics(each, rows.sample) for each in decoded]
                totals["sums/"].update(**level_sums(qualities))
                if not drawn:
                    totals["picture"].update(picture=levels_grid(domain, rows, decoded))
                    drawn = True

    def outcome(self, totals: Any) -> Outcome:
        """Mean quality by noise level, the picture grid and the curve."""
        num, means = level_means(totals["sums/"].result())
        picture = totals["picture"].result()["picture"]
        *values, clean = means[self.metric]
        curve = TrajectoryCurve(
            metric=self.metric, levels=self.config.levels, values=values, clean=clean
        )
        plot = sheet.picture(trajectory_figure({"model": curve}))
        rows = self._rows(num, means[self.metric])
        content = {"config": asdict(self.config), "num_samples": num, "metrics": means}
        content |= {"card": rows[0].card.of_many()}
        return Outcome(
            suite=self.suite,
            protocol=f"decoded predictions, {to_the_input(self.metric)}",
            rows=tuple(rows),
            remarks=undecodable(self.data, self.total, num),
            files={
                "trajectory.png": png(picture),
                f"trajectory_{self.metric}.png": plot.png,
                f"trajectory_{self.metric}.svg": plot.svg,
                "trajectory.json": json.dumps(content).encode(),
            },
        )

    def _rows(self, num: int, values: Sequence[float]) -> list[Row]:
        places = [f"t{level:.2f}" for level in self.config.levels] + ["z0"]
        notes = [f"D(z_hat), t = {level:g}" for level in self.config.levels]
        notes.append("D(z0)")
        cards = (
            self.card(
                f"{self.metric}_{place}", value, data=self.data.digest, seed=self.config.seed,
                num_samples=num, details=asdict(self.config),
            )
            for place, value in zip(places, values, strict=True)
        )  # fmt: skip
        return [Row(card=card, note=note) for card, note in zip(cards, notes, strict=True)]


def decode_levels(config: TrajectoryConfig, model: UNITE, rows: Rows) -> list[Any]:
    """Reconstructions D(z_hat(z_t)) of a batch in the order of `config.levels`, then D(z0).

    ValueError when the generation pass is to see labels and there are none.
    """
    from unite.sampling.passes import condition_labels, denoise_rows, tokenize_rows

    labels_B = condition_labels(config.condition, rows.labels_B)
    z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=config.seed)
    latents = [
        denoise_rows(
            model, z0_BKD, t, rows.rows_B,
            seed=config.seed, labels_B=labels_B, mask_BK=rows.mask_BK,
        )
        for t in config.levels
    ]  # fmt: skip
    return [model.decode(latent_BKD, rows.mask_BK) for latent_BKD in [*latents, z0_BKD]]


def levels_grid(domain: Domain, rows: Rows, reconstructions: Sequence[Any]) -> np.ndarray:
    """Picture of a batch's first samples, uint8 (H, W, C): inputs on top, below them one row per
    reconstruction."""
    few, mask_BK = slice(SHOWN), domain.take(rows.mask_BK, slice(SHOWN))
    shown = [domain.as_reconstruction(rows.sample), *reconstructions]
    pictures = [domain.render(domain.take(each, few), mask_BK) for each in shown]
    return image_grid(torch.cat(pictures).cpu().numpy(), columns=pictures[0].shape[0])
