"""Linear probe on the frozen latents (METHOD 5; paper Section 7)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import ClassVar

import numpy as np

from unite.evaluation.chunks import Arrays, Chunk, partition
from unite.evaluation.dataset import Dataset
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.metrics.passes import tokenize_rows
from unite.metrics.probe import ProbeConfig, latent_features, linear_probe
from unite.paper import counterpart

SPLITS = ("train", "eval")


@dataclass(frozen=True, kw_only=True)
class ProbeSuite(Suite):
    """Latents of training rows to fit on, of held-out rows to measure on; `total` counts both."""

    suite: ClassVar[str] = "probe"

    train: Dataset
    num_train: int
    """First rows of the training set that are used."""
    held_out: Dataset
    config: ProbeConfig = field(default_factory=ProbeConfig)
    seed: int = 0

    def chunks(self) -> tuple[Chunk, ...]:
        """Of the training rows, then of the held-out rows."""
        return (
            *partition("probe-train", self.num_train),
            *partition("probe-eval", self.total - self.num_train),
        )

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Features and labels of a chunk's rows."""
        data = self.train if chunk.label == "probe-train" else self.held_out
        model = self.model(instruments)
        features, labels = [], []
        for rows in instruments.rows(data, self.subject.config.domain, chunk):
            with instruments.autocast(self.precision):
                z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=self.seed)
            features.append(latent_features(z0_BKD, self.config.features))
            labels.append(rows.labels_B.cpu().numpy())
        return {"features": np.concatenate(features), "labels": np.concatenate(labels)}

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """Fit on the training part, accuracy on the other."""
        train, test = (self._part(chunks, split) for split in SPLITS)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # convergence is told in a remark
            result = linear_probe(*train, *test, self.config)
        values = {"top1_pct": result.top1, "top5_pct": result.top5, "majority_pct": result.majority}
        rows = tuple(
            Row(
                card=self.card(
                    name,
                    100 * value,
                    data=self.held_out.digest,
                    label_sampling="the data's",
                    num_samples=result.num_test,
                    details={**asdict(self.config), "num_train": result.num_train},
                    seed=self.seed,
                ),
                paper=counterpart(name, suite=self.suite),
                note="always the commonest class" if name == "majority_pct" else "",
            )
            for name, value in values.items()
            if value is not None
        )
        limit = f"the probe stopped at {self.config.max_iterations} iterations, not converged"
        return Outcome(
            suite=self.suite,
            protocol=f"logistic regression on z0 ({self.config.features} of registers), fitted on "
            f"{result.num_train:,} images",
            rows=rows,
            remarks=() if result.converged else (limit,),
        )

    def _part(self, chunks: Sequence[Arrays], split: str) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of one split, in the order of rows."""
        chosen = [
            arrays
            for chunk, arrays in zip(self.chunks(), chunks, strict=True)
            if chunk.label == f"probe-{split}"
        ]
        features, labels = (
            np.concatenate([arrays[name] for arrays in chosen]) for name in ("features", "labels")
        )
        return features, labels
