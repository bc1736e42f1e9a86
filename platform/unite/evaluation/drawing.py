"""Drawing of samples for a suite: how many, of which classes, under which protocol, at what cost.

One seed per sample index, so a sample depends on neither batch nor worker (METHOD 4).
Shapes: B batch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from unite.config.effects import override
from unite.config.schema import SamplingConfig
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.instruments import Instruments
from unite.evaluation.results import Row
from unite.evaluation.suite import Suite, identity
from unite.evaluation.target import Target
from unite.metrics.accumulator import Arrays
from unite.metrics.fidelity import FidelityPlan
from unite.paper import DOPRI5_EVALUATIONS, counterpart
from unite.sampling.protocol import check_balanced
from unite.storage import Store

if TYPE_CHECKING:
    from torch import Tensor

    from unite.sampling.generator import Samples

DEFAULT_SAMPLES = 50_000
SMALL_DATA_FACTOR = 2
"""Default N per training image, for a training set under DEFAULT_SAMPLES / SMALL_DATA_FACTOR."""
FEWEST_SAMPLES = FidelityPlan.splits
CFG_ORDER = "predictions after the final normalisation"


def num_samples(arguments: EvaluateArguments, target: Target) -> int:
    """N of a request; ValueError when it cannot be spread evenly over the classes."""
    classes = max(target.subject.config.domain.num_classes, 1)
    if 0 < arguments.num_samples < FEWEST_SAMPLES:
        raise ValueError(
            f"--num-samples {arguments.num_samples}: the Inception Score needs a sample in each of "
            f"its {FEWEST_SAMPLES} splits; draw at least {FEWEST_SAMPLES}"
        )
    if arguments.num_samples:
        if arguments.labels == "balanced":
            check_balanced(arguments.num_samples, classes)
        return arguments.num_samples
    small = SMALL_DATA_FACTOR * target.train.num_rows
    return max(classes, min(DEFAULT_SAMPLES, small) // classes * classes)


def sampling_of(arguments: EvaluateArguments, target: Target) -> SamplingConfig:
    """The run's own sampling settings, changed by the flags that were given.

    ValueError for values out of range and for flags that would do nothing.
    """
    names = ("solver", "num_steps", "cfg_scale", "cfg_interval")
    given = {name: getattr(arguments, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    searched = arguments.cfg_sweep or arguments.cfg_adaptive
    return override(target.subject.config.sampling, given, scale_is_searched=searched)


@dataclass(frozen=True, kw_only=True)
class Drawing(Suite):
    """A suite of N samples under one sampling protocol."""

    sampling: SamplingConfig
    labels: str = "balanced"
    """Classes of the samples: balanced = equally many of each, uniform = drawn at random, a number
    = that class alone."""
    seed: int = 0
    """Seed of the set of samples."""
    latents: str = field(default="", compare=False)
    """Folder of latents that models with one flow share; empty = none is kept. Samples are the same
    to the bit, but their seconds say nothing then, and no rate is told."""

    @property
    def cost(self) -> float:
        """Passes per sample."""
        from unite.flow.solvers import fixed_evaluations

        settings = self.sampling
        evaluations = fixed_evaluations(settings.solver, settings.num_steps)
        return (evaluations or DOPRI5_EVALUATIONS) * (2 if settings.cfg_scale != 1 else 1)

    def at_scale(self, scale: float) -> Self:
        """The same samples under another guidance scale."""
        return replace(self, sampling=replace(self.sampling, cfg_scale=scale))

    def sampling_fields(self, nfe: float) -> dict[str, Any]:
        """Fields of a card about the sampling."""
        settings = self.sampling
        adaptive = settings.solver == "dopri5"
        return {
            "label_sampling": self.labels,
            "solver": settings.solver,
            "num_steps": 0 if adaptive else settings.num_steps,
            "atol": settings.atol if adaptive else 0.0,
            "rtol": settings.rtol if adaptive else 0.0,
            "step_control": "per sample" if adaptive else "",
            "nfe": nfe,
            "cfg_scale": settings.cfg_scale,
            "cfg_interval": settings.cfg_interval,
            "cfg_order": CFG_ORDER,
            "seed": self.seed,
        }

    def draw(self, instruments: Instruments, indices_B: Tensor) -> Samples:
        """The samples of these indices, with their cost."""
        from unite.evaluation.latents import decoded_once, flow_digest
        from unite.sampling.generator import draw
        from unite.sampling.seeds import conditions, sample_seeds

        model, device = self.model(instruments), instruments.device
        seeds_B = sample_seeds(self.seed, indices_B)
        labels_B = self._labels(indices_B, model.domain.num_classes)
        given = conditions(model, seeds_B.to(device), labels_B=labels_B)
        make = partial(
            draw,
            model,
            given.labels_B.to(device),
            self.sampling,
            seeds_B=seeds_B.to(device),
            mask_BK=given.mask_BK,
        )
        with instruments.autocast(self.precision):
            if not self.latents:
                return make()
            flow = instruments.cached(("flow", self.subject), lambda: flow_digest(model))
            named = {**self._drawn(indices_B), "flow": flow, "device": device.type}
            return decoded_once(Store.open(self.latents), named, model, make)

    def _drawn(self, indices_B: Tensor) -> dict[str, Any]:
        """All that latents depend on beside the model and the machine."""
        return {
            "sampling": identity(self.sampling),
            "labels": self.labels if self.labels == "balanced" else [self.labels, self.total],
            "seed": self.seed,
            "indices": [int(indices_B[0]), int(indices_B[-1])],
            "precision": self.precision,
            "versions": self.versions,
        }

    def _labels(self, indices_B: Tensor, num_classes: int) -> Tensor:
        from unite.sampling.seeds import labels_in_turn, uniform_labels

        if self.labels.isdecimal():
            return indices_B * 0 + int(self.labels)
        if self.labels == "balanced":
            return labels_in_turn(indices_B, num_classes)
        return uniform_labels(self.total, num_classes, self.seed)[indices_B]

    def cost_rows(self, cost: Cost, nfe: float, passes: float) -> list[Row]:
        """Rows of the samples' cost; of one worker's seconds."""
        row = "dopri5, balanced classes" if self.sampling.solver == "dopri5" else ""
        if self.sampling.solver == "heun" and self.sampling.num_steps == 50:
            row = "heun, 50 steps, balanced classes"
        if not self.subject.config.domain.num_classes:
            row = ""
        paper = counterpart("nfe", suite="evaluation_protocol", row=row) if row else None
        fields = self.sampling_fields(nfe)
        rate = self.total / max(cost.seconds, 1e-9)
        made = {"details": {**cost.machine, "workers": 1}}
        rows = [
            Row(card=self.card("nfe", nfe, **fields), paper=paper),
            Row(card=self.card("passes", passes, **fields), note="nfe and those of guidance"),
        ]
        if not self.latents:
            card = self.card("images_per_s", rate, **fields, **made)
            rows.append(Row(card=card, note="of one worker"))
        return rows


class Cost:
    """Cost of samples."""

    def __init__(self) -> None:
        self.evaluations = np.zeros(2)
        """Evaluations of the velocity, and passes through the network."""
        self.seconds = 0.0
        self.machine: dict[str, str] = {}
        """Machine that computed them; all machines where chunks differ."""

    def update(self, samples: Samples, seconds: float, machine: Mapping[str, str]) -> None:
        """Count a batch of samples in."""
        counts = (samples.nfe_B, samples.network_rows_B)
        self.evaluations += [float(each.sum()) for each in counts]
        self.seconds += seconds
        self.machine |= machine

    def merge(self, arrays: Arrays) -> None:
        """Add what `to_arrays` gave of others' cost."""
        self.evaluations += arrays["cost"]
        self.seconds += float(arrays["seconds"])
        for name, value in json.loads(str(arrays["machine"])).items():
            seen = self.machine.setdefault(name, value)
            if value not in seen.split(" and "):
                self.machine[name] = f"{seen} and {value}"

    def to_arrays(self) -> dict[str, np.ndarray]:
        """Arrays for a chunk; counts are whole numbers."""
        return {
            "cost": self.evaluations.astype(np.int64),
            "seconds": np.array(self.seconds),
            "machine": np.array(json.dumps(self.machine)),
        }
