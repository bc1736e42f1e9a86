"""Costs of the run: parameters, FLOPs, throughput (METHOD 5; paper Section 5.3).

Needs the run's config, and what it logged while it trained.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np

from unite.config.workers import is_range, most_workers
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import Chunk
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import History, Suite, common_fields
from unite.evaluation.target import Subject, Target
from unite.lazy import torch
from unite.metrics.accumulator import Stack, Totals
from unite.metrics.costs import compute_table
from unite.paper import ANALYSED, PaperFigure, model_counterpart

UNITS = {
    "_m": "million",
    "device_hours": "of all devices together, at the median rate",
    "images_per_s": "all workers, training, median",
    "mfu": "share of the matmul rate, training",
}
THROUGHPUT, MFU = "throughput/images_per_s", "throughput/mfu"
MEASURED = ("images_per_s", "device_hours", "mfu")


@dataclass(frozen=True, kw_only=True)
class ComputeSuite(Suite):
    """Costs that are counted from the config; one chunk."""

    suite: ClassVar[str] = "compute"
    untrained: ClassVar[bool] = True
    counts_samples: ClassVar[bool] = False
    draws: ClassVar[bool] = False

    images_per_epoch: int | None = None
    """Size of the training set; None for a recipe, whose rows of a run's length are absent."""
    images_per_s: float | None = field(default=None, compare=False)
    """Throughput of the training run, as it measured it; None where it did not."""
    mfu: float | None = field(default=None, compare=False)
    """Share of the matmul rate that it used, likewise."""

    @classmethod
    def of(cls, arguments: EvaluateArguments, target: Target) -> Self:
        """The suite of a request."""
        images_per_epoch = target.train.num_rows
        return cls(total=1, images_per_epoch=images_per_epoch, **common_fields(arguments, target))

    @classmethod
    def of_untrained(cls, arguments: EvaluateArguments, subject: Subject) -> Self:
        """The suite of a recipe."""
        return cls(total=1, home=subject.home, subject=subject)

    @classmethod
    def why_not(cls, target: Target) -> str:
        """Weights without the config of their run have no costs."""
        if target.subject.trained_here:
            return ""
        return "what a run costs needs its config, not weights alone"

    def informed(self, history: History) -> Self:
        """With medians over the run's log points, as a run has slow moments at start and end."""
        found = {name: history(name) for name in (THROUGHPUT, MFU)}
        medians = {name: statistics.median(v) if v else None for name, v in found.items()}
        return replace(self, images_per_s=medians[THROUGHPUT], mfu=medians[MFU])

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Trained parameters of each part."""
        return {"parameters": Stack()}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Trained parameters of each part that has any."""
        model = self.model(instruments)
        counts = {
            name: sum(tensor.numel() for tensor in module.parameters())
            for name, module in model.named_children()
        }
        totals["parameters"].update(
            **{name: np.array(count) for name, count in counts.items() if count}
        )

    def outcome(self, totals: Any) -> Outcome:
        """The paper's table."""
        from unite.training.flops import training_flops

        parameters = totals["parameters"].result()
        flops, cluster = training_flops(self.subject.config), self.subject.config.cluster
        varied = is_range(cluster)
        table = compute_table(
            parameters={name: int(count[0]) for name, count in parameters.items()},
            flop_per_sample={name: term.total for name, term in flops.terms.items()},
            samples_seen=self.subject.images or None,
            epochs=self.subject.images / (self.images_per_epoch or 1),
            images_per_s=self.images_per_s,
            num_devices=None if varied else most_workers(cluster),
            mfu=self.mfu,
        )
        rows = tuple(
            Row(
                card=self.card(
                    name,
                    value,
                    precision="",
                    num_samples=0,
                    details=self._machine if name in MEASURED else {},
                ),
                paper=self._paper(name),
                note=next((unit for end, unit in UNITS.items() if name.endswith(end)), ""),
            )
            for name, value in table.items()
        )
        remark = ""
        if not self.subject.uri:
            remark = "An untrained model: no length, throughput, device hours and MFU"
        elif not self.subject.images:
            remark = (
                "No length, throughput, device hours and MFU: weights without their run do not say "
                "how long they were trained"
            )
        elif not self.images_per_s:
            remark = (
                "No training throughput, device hours and MFU: neither the run's folder nor MLflow "
                "holds any that can be read from here"
            )
        elif varied:
            remark = f"No device hours: the run had {cluster.num_workers} workers, as there were"
        return Outcome(
            suite=self.suite,
            protocol="training, forward, backward and recompute",
            rows=rows,
            remarks=(remark,) if remark else (),
        )

    def _paper(self, name: str) -> PaperFigure | None:
        """The paper's figure, where it has one of a model of such samples."""
        config = self.subject.config
        if config.domain.kind != ANALYSED:
            return None
        return model_counterpart(name, suite=self.suite, config=config)

    @property
    def _machine(self) -> dict[str, Any]:
        """Settings behind the measured rates, as far as the run's config tells."""
        cluster, training = self.subject.config.cluster, self.subject.config.training
        return {
            "workers": cluster.num_workers,
            "device": "GPU" if cluster.use_gpu else "CPU",
            "threads_per_worker": cluster.threads_per_worker,
            "batch": training.batch_size,
            "precision": training.precision,
        }
