"""Linear probe on the frozen latents (METHOD 5; paper Section 7).

Needs classes, training samples to fit on and held-out ones to measure on.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Self

from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk, partition
from unite.evaluation.dataset import MOST_IMAGES, Dataset, undecodable
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Suite, common_fields
from unite.evaluation.target import Target, check_labels
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals
from unite.metrics.linear_probe import (
    ProbeConfig,
    ProbeResult,
    latent_features,
    linear_probe,
)
from unite.paper import model_counterpart

LABELS = {"train": "probe-train", "eval": "probe-eval"}
"""Split -> label of its chunks."""
NAMES = {"mean": "", "flatten": "flat_"}
"""Input of a probe -> prefix of its metrics' names."""
MOST_PRODUCTS = 10**9
"""Largest number of multiplications in one pass of the fit for which all registers are probed
too: on ImageNet they are 8,192 features of 1,000 classes, hours of it."""


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

    @property
    def configs(self) -> tuple[ProbeConfig, ...]:
        """The probes: on the mean of the registers, and on all of them where that is affordable."""
        flat = replace(self.config, features="flatten")
        return (self.config,) if self._too_large else (self.config, flat)

    @property
    def _too_large(self) -> bool:
        model, classes = self.subject.config.model, self.subject.config.domain.num_classes
        products = model.num_registers * model.latent_dim * classes * self.num_train
        return products > MOST_PRODUCTS

    def chunks(self) -> tuple[Chunk, ...]:
        """Chunks of the training rows, then of the held-out rows."""
        return (
            *partition(LABELS["train"], self.num_train),
            *partition(LABELS["eval"], self.total - self.num_train),
        )

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request; ValueError for labels outside of the classes."""
        check_labels(target)
        num_train = min(arguments.probe_images, target.train.num_rows)
        num_test = min(arguments.num_images or MOST_IMAGES, target.held_out.num_rows)
        return cls(
            total=num_train + num_test,
            num_train=num_train,
            train=target.train,
            held_out=target.held_out,
            seed=arguments.seed,
            **common_fields(arguments, target),
        )

    @classmethod
    def why_not(cls, target: Target) -> str:
        """A probe reads classes from latents."""
        classes = target.subject.config.domain.num_classes
        return "" if classes > 1 else "a probe reads classes, and the model has fewer than two"

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Features and labels of a split's rows, in their order."""
        return {label: Stack(*(each.features for each in self.configs), "labels")}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Features and labels of a chunk's rows."""
        from unite.sampling.passes import tokenize_rows

        data = self.train if chunk.label == LABELS["train"] else self.held_out
        model = self.model(instruments)
        for rows in instruments.rows(data, self.subject.config.domain, chunk):
            with instruments.autocast(self.precision):
                z0_BKD = tokenize_rows(model, rows.sample, rows.rows_B, seed=self.seed)
            features = {
                each.features: latent_features(z0_BKD, each.features, rows.mask_BK)
                for each in self.configs
                if each.features == "mean" or rows.mask_BK is None
            }
            totals[chunk.label].update(**features, labels=rows.labels_B.cpu().numpy())

    def outcome(self, totals: Any) -> Outcome:
        """Fit on the training part, accuracy on the other."""
        train, test = (totals[label].result() for label in LABELS.values())
        rows, remarks = [], []
        for config in (each for each in self.configs if each.features in train):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # convergence is told in a remark
                result = linear_probe(
                    train[config.features], train["labels"],
                    test[config.features], test["labels"], config,
                )  # fmt: skip
            rows += self._rows(result)
            if not result.converged:
                remarks.append(
                    f"the probe on the {config.features} of registers stopped at "
                    f"{config.max_iterations} iterations, not converged"
                )
        if self._too_large:
            remarks.append("Probed on the mean of registers alone: all of them are too many to fit")
        num_train, num_test = len(train["labels"]), len(test["labels"])
        return Outcome(
            suite=self.suite,
            protocol=f"logistic regression on z0, fitted on {num_train:,} images; top: on the mean "
            "of its registers, flat_top: on all of them side by side",
            rows=tuple(rows),
            remarks=(
                *remarks,
                *undecodable(self.train, self.num_train, num_train),
                *undecodable(self.held_out, self.total - self.num_train, num_test),
            ),
        )

    def _rows(self, result: ProbeResult) -> list[Row]:
        prefix = NAMES[result.config.features]
        values = {f"{prefix}top1_pct": result.top1, f"{prefix}top5_pct": result.top5}
        if not prefix:  # it depends on no features
            values["majority_pct"] = result.majority
        notes = {"top1_pct": f"{result.num_features} features, mean of registers"}
        notes["flat_top1_pct"] = f"{result.num_features} features, registers side by side"
        notes["majority_pct"] = "always the commonest class"
        fields = {
            "data": self.held_out.digest,
            "label_sampling": "the data's",
            "num_samples": result.num_test,
            "details": {**asdict(result.config), "num_train": result.num_train},
            "seed": self.seed,
        }
        return [
            Row(
                card=self.card(name, 100 * value, **fields),
                paper=model_counterpart(name, suite=self.suite, config=self.subject.config),
                note=notes.get(name, ""),
            )
            for name, value in values.items()
            if value is not None
        ]
