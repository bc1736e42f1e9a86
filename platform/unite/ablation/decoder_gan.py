"""The ablation of the decoder's adversarial fine-tuning: its arms, differences and verdicts.

The question (METHOD 6): is it the adversary, its initialisation, or just more epochs of decoder
training? So no arm is shown without the control of equal steps, and differences are paired: an arm
and its control share parent, seed, rows, sample seeds and solver.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from unite.metrics.specs import direction
from unite.tables import markdown_lines
from unite.words import count

PARENT, CONTROL, GE = "parent", "control", "GE, trained"
ARMS: dict[str, dict[str, object]] = {
    CONTROL: {"adversarial.weight": 0.0},
    GE: {},
    "GE, frozen": {"discriminator.trunk": "frozen"},
    "random, trained": {"discriminator.init": "random"},
    "GE, weight 0.1": {"adversarial.weight": 0.1},
    "GE, no latent noise": {"reconstruction_noise.probability": 0.0},
}
"""Arm -> changes of the fine-tuning's settings; weight 0.75 where none is named."""
RULE = (
    "Rule: differences to the control are paired (same parent, seed, rows, sample seeds, solver); "
    "one beyond two standard errors of its mean decides, of three pairs or more."
)
DECISIVE = 2.0
"""Number of standard errors beyond which a difference decides."""
Verdict = Literal["HOLDS", "FAILS", "UNDECIDED"]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Numbers of one fine-tuned run, or of a parent."""

    parent: str
    """Name of the parent's run."""
    arm: str
    seed: int
    metrics: Mapping[str, float]
    """Values by <suite>/<metric>; of samples the mean over the sets of samples."""
    spread: Mapping[str, float]
    """Standard deviation over the sets of samples, of what is measured on samples."""
    training: Mapping[str, float]
    """Last logged values of the fine-tuning."""
    run: str
    """Folder of the run."""
    cpu_seconds: Mapping[str, float] = field(default_factory=dict)
    """CPU time of training and measuring; of an earlier training that was resumed, only the rest.
    Empty in results that were kept before it was counted."""

    @property
    def pair(self) -> tuple[str, int]:
        """Identity that an arm and its control share."""
        return self.parent, self.seed


class Difference(NamedTuple):
    """A paired difference to a control, over pairs."""

    mean: float
    error: float
    """Standard error of the mean; NaN for a single pair."""
    relative: float
    """Mean of the differences relative to the control, 0.1 = 10%."""
    pairs: int


def difference(
    measured: Sequence[Measured], arm: str, metric: str, control: str = CONTROL
) -> Difference | None:
    """Arm minus control; None where nothing is paired."""
    by_arm = {name: {m.pair: m for m in measured if m.arm == name} for name in (arm, control)}
    both = [
        (by_arm[arm][pair].metrics[metric], by_arm[control][pair].metrics[metric])
        for pair in by_arm[arm]
        if pair in by_arm[control]
    ]
    if not both:
        return None
    values = [mine - other for mine, other in both]
    relative = statistics.fmean((mine - other) / abs(other) for mine, other in both)
    return Difference(statistics.fmean(values), standard_error(values), relative, len(values))


def standard_error(values: Sequence[float]) -> float:
    """Standard error of the mean; NaN for a single value."""
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan


def better(found: Difference, metric: str) -> Verdict:
    """Verdict on "the arm is better than its control by this metric"."""
    if found.pairs < FEWEST_PAIRS or abs(found.mean) <= DECISIVE * found.error:
        return "UNDECIDED"
    gain = found.mean if direction(metric.rpartition("/")[2]) == "higher" else -found.mean
    return "HOLDS" if gain > 0 else "FAILS"


def unchanged(measured: Sequence[Measured], arm: str, metric: str) -> Verdict | None:
    """Verdict on "generation unchanged": the difference to the parent, over all pairs, is within
    two standard errors of the sampling of the sets of samples."""
    parents = {m.parent: m for m in measured if m.arm == PARENT}
    tuned = [m for m in measured if m.arm == arm and m.parent in parents]
    values = [m.metrics[metric] - parents[m.parent].metrics[metric] for m in tuned]
    if not values:
        return None
    variances = [m.spread[metric] ** 2 + parents[m.parent].spread[metric] ** 2 for m in tuned]
    sampling = math.sqrt(statistics.fmean(variances) / SETS)
    return "HOLDS" if abs(statistics.fmean(values)) <= DECISIVE * sampling else "FAILS"


FEWEST_PAIRS = 3
"""Pairs under which nothing is decided: two agree within their error too often by chance."""
SETS = 3
"""Number of sets of samples that an arm is measured on."""


def claims(measured: Sequence[Measured], distance: str, samples: str) -> list[str]:
    """Lines of the verdict. `distance` is that of reconstructions, `samples` that of samples."""
    lines = []
    for arm in [name for name in ARMS if name != CONTROL]:
        for metric in (distance, samples):
            if (found := difference(measured, arm, metric)) is not None:
                lines.append(
                    f"{better(found, metric)}: {arm} lowers {_words(metric)} against the control: "
                    f"{_text(found)}"
                )
        if word := unchanged(measured, arm, samples):
            lines.append(f"{word}: {arm} leaves generation unchanged from the parent's")
    return [*lines, *_initialisation(measured, distance), RULE]


def _initialisation(measured: Sequence[Measured], distance: str) -> list[str]:
    """Verdict on the paper's choice: a discriminator from the GE against a fresh one."""
    found = difference(measured, GE, distance, control="random, trained")
    if found is None or found.pairs < 2:
        return []
    return [
        f"{better(found, distance)}: initialising from the GE lowers {_words(distance)} against "
        f"fresh weights: {found.mean:+.3g} +- {found.error:.2g} ({found.pairs} pairs)"
    ]


def _text(found: Difference) -> str:
    error = "one pair" if math.isnan(found.error) else f"+- {found.error:.2g}, {found.pairs} pairs"
    return f"{found.mean:+.3g} ({found.relative:+.0%}; {error})"


def _words(metric: str) -> str:
    return metric.rpartition("/")[2]


def table(measured: Sequence[Measured], metrics: Sequence[str]) -> list[str]:
    """A Markdown table for each parent: arm, mean and standard error over seeds, per metric."""
    lines = []
    for parent in dict.fromkeys(m.parent for m in measured):
        rows = []
        for arm in (PARENT, *ARMS):
            mine = [m for m in measured if m.parent == parent and m.arm == arm]
            if mine:
                right = [m.training["disc/accuracy"] for m in mine if "disc/accuracy" in m.training]
                values = [[m.metrics[n] for m in mine if n in m.metrics] for n in metrics]
                cells = [mean_and_error(each) if each else "-" for each in (*values, right)]
                rows.append([arm, *cells, len(mine)])
        heads = ["arm", *map(_words, metrics), "disc/accuracy", "seeds"]
        lines += [f"Parent {parent}:", "", *markdown_lines(heads, rows), ""]
    return lines


def cost_lines(measured: Sequence[Measured]) -> list[str]:
    """A line on the CPU time of all that was counted, by arm; none where nothing was."""
    counted = [m for m in measured if m.cpu_seconds]
    if not counted:
        return []
    total = sum(sum(m.cpu_seconds.values()) for m in counted)
    arms = {m.arm: [n.cpu_seconds for n in counted if n.arm == m.arm] for m in counted}
    medians = (
        f"{arm} {_median(each, 'training'):.0f} + {_median(each, 'measuring'):.0f}"
        for arm, each in arms.items()
    )
    return [
        f"CPU time of {count(len(counted), 'result')}: {total / 60:.1f} min; medians in seconds, "
        f"training + measuring: {'; '.join(medians)}"
    ]


def _median(seconds: Iterable[Mapping[str, float]], part: str) -> float:
    return statistics.median(each.get(part, 0.0) for each in seconds)


def mean_and_error(values: Sequence[float]) -> str:
    """Mean, and standard error of the mean where there are several values."""
    mean, error = f"{statistics.fmean(values):.4g}", standard_error(values)
    return mean if math.isnan(error) else f"{mean} +- {error:.2g}"
