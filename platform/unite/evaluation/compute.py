"""What the run cost: parameters, FLOPs, throughput (METHOD 5; paper Section 5.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from unite.evaluation.chunks import Arrays, Chunk
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Outcome, Row
from unite.evaluation.task import Suite
from unite.metrics.compute import ComputeInputs, compute_table
from unite.paper import counterpart
from unite.training.flops import training_flops

UNITS = {"_m": "million", "device_hours": "of one device", "images_per_s": "all workers, training"}


@dataclass(frozen=True, kw_only=True)
class ComputeSuite(Suite):
    """Counted from the config; one chunk."""

    suite: ClassVar[str] = "compute"

    images_per_epoch: int
    images_per_s: float | None = field(default=None, compare=False)
    """Training throughput as the run logged it."""

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Trained parameters of each part."""
        model = self.model(instruments)
        counts = {
            name: sum(tensor.numel() for tensor in module.parameters())
            for name, module in model.named_children()
        }
        return {name: np.array(count) for name, count in counts.items() if count}

    def combine(self, chunks: Sequence[Arrays]) -> Outcome:
        """The paper's table."""
        flops = training_flops(self.subject.config)
        table = compute_table(
            ComputeInputs(
                parameters={name: int(count) for name, count in chunks[0].items()},
                flop_per_sample={name: term.total for name, term in flops.terms.items()},
                model_flop_per_sample=flops.model,
                samples_seen=self.subject.images,
                epochs=self.subject.images / self.images_per_epoch,
                images_per_s=self.images_per_s,
            )
        )
        rows = tuple(
            Row(
                card=self.card(name, value, precision="", num_samples=0),
                paper=counterpart(name, suite=self.suite),
                note=next((unit for end, unit in UNITS.items() if name.endswith(end)), ""),
            )
            for name, value in table.items()
        )
        remark = "No training throughput: the run logged none to MLflow that can be read from here."
        return Outcome(
            suite=self.suite,
            protocol="training, forward, backward and recompute",
            rows=rows,
            remarks=() if self.images_per_s else (remark,),
        )
