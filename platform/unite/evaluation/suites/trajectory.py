"""Predictions of the generation pathway at several noise levels (METHOD 5; paper Fig. 7)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import numpy as np
import torch

from unite.domains import build_domain
from unite.evaluation.chunks import Arrays, Chunk
from unite.evaluation.dataset import Dataset, undecodable
from unite.evaluation.instruments import Instruments, Rows
from unite.evaluation.pictures import png
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.figures import sheet
from unite.figures.trajectory import TrajectoryCurve, to_the_input, trajectory_figure
from unite.metrics.noise_levels import (
    Trajectory,
    TrajectoryConfig,
    TrajectorySums,
    decode_trajectory,
    trajectory_grid,
)

SHOWN = 8
"""Number of images in the picture."""


@dataclass(frozen=True, kw_only=True)
class TrajectorySuite(Suite):
    """The first N held-out images, noised, predicted and decoded."""

    suite: ClassVar[str] = "trajectory"

    data: Dataset
    config: TrajectoryConfig = field(default_factory=TrajectoryConfig)

    @property
    def metric(self) -> str:
        """Metric of the curve: the domain's own for the quality of reconstructions."""
        return build_domain(self.subject.config.domain).best_metric

    @property
    def cost(self) -> float:
        """Passes per image."""
        return 2.0 + 2.0 * len(self.config.levels)

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Sums of a chunk; the first chunk also draws the picture."""
        sums, model = TrajectorySums(self.config), self.model(instruments)
        picture: dict[str, np.ndarray] = {}
        for rows in instruments.rows(self.data, self.subject.config.domain, chunk):
            with torch.inference_mode(), instruments.autocast(self.precision):
                sums.add(model, rows.sample, rows.rows_B, rows.labels_B)
                if chunk.index == 0 and not picture:
                    picture["picture"] = self._picture(instruments, rows)
        return {**{f"sums/{name}": array for name, array in sums.state().items()}, **picture}

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """Mean quality by noise level, the picture grid and the curve."""
        sums = TrajectorySums(self.config)
        picture: np.ndarray | None = None
        for chunk in chunks:
            picture = chunk.get("picture", picture)
            state = {k.removeprefix("sums/"): v for k, v in chunk.items() if k.startswith("sums/")}
            sums.merge(TrajectorySums.from_state(self.config, state))
        result = sums.result()
        assert picture is not None
        metric = self.metric
        *values, clean = result.metrics[metric].tolist()
        curve = TrajectoryCurve(
            metric=metric, levels=self.config.levels, values=values, clean=clean
        )
        plot = sheet.picture(trajectory_figure({"model": curve}))
        rows = self._rows(result)
        content = {**result.to_dict(), "card": rows[0].card.of_many()}
        return Outcome(
            suite=self.suite,
            protocol=f"decoded predictions, {to_the_input(metric)}",
            rows=tuple(rows),
            remarks=undecodable(self.data, self.total, result.num_samples),
            files={
                "trajectory.png": png(picture),
                f"trajectory_{metric}.png": plot.png,
                f"trajectory_{metric}.svg": plot.svg,
                "trajectory.json": json.dumps(content).encode(),
            },
        )

    def _picture(self, instruments: Instruments, rows: Rows) -> np.ndarray:
        model = self.model(instruments)
        few = model.domain.take(rows.sample, slice(SHOWN))
        labels = rows.labels_B[:SHOWN]
        decoded = decode_trajectory(self.config, model, few, rows.rows_B[:SHOWN], labels)
        return trajectory_grid(self.domain(instruments), few, decoded)

    def _rows(self, result: Trajectory) -> list[Row]:
        places = [f"t{level:.2f}" for level in self.config.levels] + ["z0"]
        notes = [f"D(z_hat), t = {level:g}" for level in self.config.levels]
        notes.append("D(z0)")
        cards = (
            self.card(
                f"{self.metric}_{place}", value, data=self.data.digest, seed=self.config.seed,
                num_samples=result.num_samples, details=asdict(self.config),
            )
            for place, value in zip(places, result.metrics[self.metric], strict=True)
        )  # fmt: skip
        return [Row(card=card, note=note) for card, note in zip(cards, notes, strict=True)]
