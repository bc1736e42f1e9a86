"""Expected time of a sweep, from the times of earlier sweeps on this machine.

A sweep of small trials mostly waits: Ray starts, each trial's process imports torch, every
checkpoint is loaded and measured. FLOPs alone would promise seconds where it is minutes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from unite.ablation.results import Result
from unite.ablation.trials import Sweep, TrialGroup
from unite.training.timings import Expected, Timings
from unite.words import count

SWEEP, TRIAL = "start a sweep, s", "start a trial, s"
TYPICAL_START_S, TYPICAL_TRIAL_S, TYPICAL_MEASURING_S = 20.0, 15.0, 10.0
"""Seconds on a typical machine of two cores, used until this machine's own are known."""


def known_rate(sweep: Sweep) -> float:
    """FLOP/s of one trial in earlier sweeps like this one; 0 when there were none."""
    return Timings(sweep.storage).usual(_rate_name(sweep), 0.0)


def expect_sweep(
    sweep: Sweep, left: Sequence[TrialGroup], flops: float, *, rate: float, slots: int
) -> Expected:
    """Time of the runs that are left, `slots` at once, whose training takes `flops` in all.

    `rate`: FLOP/s of one trial.
    """
    timings = Timings(sweep.storage)
    waves, at_once = math.ceil(len(left) / slots), min(slots, len(left))
    trials = sum(len(work.trials) for work in left)
    measuring = timings.usual(_measuring_name(sweep), TYPICAL_MEASURING_S)
    start = timings.usual(SWEEP, TYPICAL_START_S)
    return Expected(
        parts={
            "start-up": start + waves * timings.usual(TRIAL, TYPICAL_TRIAL_S),
            "training": flops / rate / at_once,
            "measuring": trials * measuring / at_once,
        },
        basis=_basis(timings, sweep),
    )


def note_sweep(
    sweep: Sweep,
    works: Sequence[TrialGroup],
    results: Sequence[Sequence[Result]],
    slots: int,
    start_s: float,
    grid_s: float,
) -> None:
    """Keep a sweep's durations: until its grid began, in the grid, and each trial's own work.

    Time of the grid beyond the trials' own work is divided among its waves. Trials that were not
    done in one session are left out.
    """
    pairs = [(work, found) for work, found in zip(works, results, strict=True) if found]
    whole = [(w, found) for w, found in pairs if all("training" in r.seconds for r in found[:1])]
    if not whole or len(whole) < len(works):
        return
    training = [found[0].seconds["training"] for _, found in whole]
    measuring = [result.seconds["measuring"] for _, found in whole for result in found]
    busy = (sum(training) + sum(measuring)) / min(slots, len(works))
    waves = math.ceil(len(works) / slots)
    flops = sum(found[0].flops for _, found in whole)
    Timings(sweep.storage).add(
        {
            SWEEP: start_s,
            TRIAL: max(grid_s - busy, 0.0) / waves,
            _rate_name(sweep): flops / max(sum(training), 1e-3),
            _measuring_name(sweep): statistics.mean(measuring),
        }
    )


def _basis(timings: Timings, sweep: Sweep) -> str:
    known = len(timings.values(_rate_name(sweep)))
    if known:
        return f"from {count(known, 'earlier sweep')} like it on this machine"
    return "from a few steps timed now or the rate given; start and measuring are typical"


def _rate_name(sweep: Sweep) -> str:
    config = sweep.trials[0].config
    workers = f"{config.cluster.num_workers} {'GPU' if config.cluster.use_gpu else 'CPU'}"
    return f"training {config.recipe} in trials of {workers}, FLOP/s"


def _measuring_name(sweep: Sweep) -> str:
    recipe = sweep.trials[0].config.recipe
    return f"measuring {count(sweep.options.samples, 'sample')} of {recipe}, s"
