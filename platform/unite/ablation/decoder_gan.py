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

from unite.ablation.verdict import DECISIVE
from unite.metrics.specs import direction
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
    """A paired difference to the control, over pairs."""

    mean: float
    error: float
    """Standard error of the mean; NaN for a single pair."""
    relative: float
    """Mean of the differences relative to the control, 0.1 = 10%."""
    pairs: int


def difference(measured: Iterable[Measured], arm: str, metric: str) -> Difference | None:
    """Arm minus control; None where nothing is paired."""
    by_arm = {name: {m.pair: m for m in measured if m.arm == name} for name in (arm, CONTROL)}
    both = [
        (by_arm[arm][pair].metrics[metric], by_arm[CONTROL][pair].metrics[metric])
        for pair in by_arm[arm]
        if pair in by_arm[CONTROL] and metric in by_arm[arm][pair].metrics
    ]
    if not both:
        return None
    values = [mine - control for mine, control in both]
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    relative = statistics.fmean((mine - control) / abs(control) for mine, control in both)
    return Difference(statistics.fmean(values), error, relative, len(values))


def better_than_control(measured: Sequence[Measured], arm: str, metric: str) -> Verdict | None:
    """Verdict on "the arm is better than its control"; None where nothing is paired."""
    found = difference(measured, arm, metric)
    if found is None:
        return None
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
        found = difference(measured, arm, distance)
        if found is None:
            continue
        word = better_than_control(measured, arm, distance)
        lines.append(f"{word}: {arm} lowers {_words(distance)} against the control: {_text(found)}")
        drawn = difference(measured, arm, samples)
        if drawn is not None:
            word = better_than_control(measured, arm, samples)
            lines.append(
                f"{word}: {arm} lowers {_words(samples)} against the control: {_text(drawn)}"
            )
        if word := unchanged(measured, arm, samples):
            lines.append(f"{word}: {arm} leaves generation unchanged from the parent's")
    lines += _initialisation(measured, distance)
    return [*lines, RULE]


def _initialisation(measured: Sequence[Measured], distance: str) -> list[str]:
    """Verdict on the paper's choice: a discriminator from the GE against a fresh one."""
    fresh = {m.pair: m.metrics[distance] for m in measured if m.arm == "random, trained"}
    values = [
        m.metrics[distance] - fresh[m.pair] for m in measured if m.arm == GE and m.pair in fresh
    ]
    if len(values) < 2:
        return []
    mean, error = statistics.fmean(values), statistics.stdev(values) / math.sqrt(len(values))
    open_still = len(values) < FEWEST_PAIRS or abs(mean) <= DECISIVE * error
    word = "UNDECIDED" if open_still else "HOLDS" if mean < 0 else "FAILS"
    return [
        f"{word}: initialising from the GE lowers {_words(distance)} against fresh weights: "
        f"{mean:+.3g} +- {error:.2g} ({len(values)} pairs)"
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
        heads = ["arm", *map(_words, metrics), "disc/accuracy", "seeds"]
        lines += [f"Parent {parent}:", "", _row(heads), _row(["---"] * len(heads))]
        for arm in (PARENT, *ARMS):
            mine = [m for m in measured if m.parent == parent and m.arm == arm]
            if mine:
                right = [m.training["disc/accuracy"] for m in mine if "disc/accuracy" in m.training]
                cells = [mean_and_error([m.metrics[name] for m in mine]) for name in metrics]
                seen = mean_and_error(right) if right else "-"
                lines.append(_row([arm, *cells, seen, str(len(mine))]))
        lines.append("")
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
    mean = f"{statistics.fmean(values):.4g}"
    if len(values) < 2:
        return mean
    return f"{mean} +- {statistics.stdev(values) / math.sqrt(len(values)):.2g}"


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
