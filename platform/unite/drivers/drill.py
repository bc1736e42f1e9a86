"""`unite drill`: a fault for real on a scratch run, its cost, and the promise that it is held to.

    storage/undisturbed-WORKERS-STEPS   the same training without a fault
    storage/NAME                        the one that is disturbed

What a drill sees it sees from outside: progress.json, the checkpoints and the command's end. The
number of images lost are those trained again: the highest count that was shown before the fault,
less the one that training went on from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from unite import terminal
from unite.checkpoints.layout import latest
from unite.config.recipes import recipe as named_recipe
from unite.drivers.faults import (
    AWAY_S,
    NOTICE_S,
    STEPS_PER_SAVE,
    UNTRACKED,
    Disturbed,
    Scratch,
    lose_driver,
    lose_node,
    lose_storage,
    lose_tracking,
    lose_worker,
    require_end,
)
from unite.drivers.followed import Seen
from unite.runs import is_builtin
from unite.storage import Store
from unite.words import count

Name = Literal["worker", "node", "driver", "spot", "storage", "tracking"]
Fault = Callable[[Scratch, ExitStack], Disturbed]
"""Function that disturbs a training and lets it end; what it starts, the stack closes."""
EQUAL = "equal"


@dataclass(frozen=True, kw_only=True)
class Drill:
    """A fault and the promise about it."""

    does: str
    fault: Fault
    workers: int = 1
    typed: int = 1
    """Largest number of times that the command is typed."""
    longer: int = 1
    """Factor of the optimiser steps, for a fault that takes its time."""
    saves_lost: int = 2
    """Largest number of images lost, in intervals between checkpoints: the one since the last save,
    and the one before it while that save is still being written."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """Observations of a drill beside its promises."""

    drill: str
    does: str
    images_lost: int
    most_images: int
    pause_s: float
    """Longest time without a step after the fault, seconds."""
    typed: int
    most_typed: int
    weights: str
    broken: tuple[str, ...]
    """Promises that were not kept, in words."""

    def __str__(self) -> str:
        kept = "; ".join(self.broken) or "every promise is kept"
        lost = f"{count(self.images_lost, 'image')} lost, longest pause {self.pause_s:g} s"
        return f"{self.drill}: {kept} ({lost}, weights {self.weights})"


def run_drills(names: Sequence[Name], scratch: Scratch) -> Iterator[Observation]:
    """Do drills one after the other; ValueError for a recipe that needs data of a user."""
    config = named_recipe(scratch.recipe)
    if not is_builtin(config.data.train):
        raise ValueError(
            f"--recipe {scratch.recipe} needs data of yours: a drill takes one that brings its own "
            "(smoke, digits)"
        )
    undisturbed: dict[tuple[int, int], Store] = {}
    for name in names:
        drill = DRILLS[name]
        ours, key = (
            replace(scratch, steps=scratch.steps * drill.longer),
            (drill.workers, drill.longer),
        )
        if key not in undisturbed:
            terminal.tell(f"the undisturbed run on {count(drill.workers, 'worker')}")
            undisturbed[key] = _undisturbed(ours, drill.workers)
        terminal.tell(f"{name}: {drill.does}")
        with ExitStack() as stack:
            seen = _observe(name, drill, drill.fault(ours, stack), ours.batch, undisturbed[key])
        terminal.tell(str(seen))
        yield seen


def _undisturbed(scratch: Scratch, workers: int) -> Store:
    name = f"undisturbed-{workers}-{scratch.steps}"
    training = scratch.training(name, workers, UNTRACKED)
    try:
        training.start()
        require_end(training)
    finally:
        training.close()
    return training.run


def _observe(name: str, drill: Drill, found: Disturbed, step: int, right: Store) -> Observation:
    """Compare a disturbed training with the promise and the undisturbed run."""
    training = found.training
    lost, most = images_lost(training.seen, step), drill.saves_lost * STEPS_PER_SAVE * step
    weights = weight_difference(training.run, right)
    promises = {
        f"{count(lost, 'image')} lost, promised at most {most:,}": lost <= most,
        f"typed {training.typed} times, promised at most {drill.typed}": training.typed
        <= drill.typed,
        f"the weights {weights}, promised bit-equal": weights == EQUAL,
        found.lacking: not found.lacking,
    }
    return Observation(
        drill=name,
        does=drill.does,
        images_lost=lost,
        most_images=most,
        pause_s=round(longest_pause(training.seen, found.at), 1),
        typed=training.typed,
        most_typed=drill.typed,
        weights=weights,
        broken=tuple(promise for promise, is_kept in promises.items() if not is_kept),
    )


def images_lost(seen: Sequence[Seen], step: int) -> int:
    """Images that were trained again: falls of the count, which no undisturbed run has.

    A new group's first state is written after its first optimiser step of `step` images.
    """
    pairs = zip(seen, seen[1:], strict=False)
    return sum(a.images - max(0, b.images - step) for a, b in pairs if b.images < a.images)


def longest_pause(seen: Sequence[Seen], at: float) -> float:
    """Longest time without news of a training after the time `at`, in seconds."""
    times = [at, *(each.time for each in seen if each.time > at)]
    return max((b - a for a, b in zip(times, times[1:], strict=False)), default=0.0)


def weight_difference(run: Store, right: Store) -> str:
    """EQUAL when the newest checkpoints agree bit for bit in all parts, else their difference."""
    import torch

    from unite.checkpoints.store import read_checkpoint

    places = [latest(each) for each in (run, right)]
    if None in places:
        return "are not there"
    ours, theirs = (read_checkpoint(place) for place in places if place)
    if ours.images != theirs.images:
        return f"are of {ours.images:,} images, not of {theirs.images:,}"
    apart = 0.0
    for part, tensors in theirs.parts.items():
        for name, tensor in tensors.items():
            other = ours.parts[part][name]
            if not torch.equal(other, tensor):
                apart = max(apart, float((other.double() - tensor.double()).abs().max()))
    return f"differ by {apart:.2g} at most" if apart else EQUAL


DRILLS: dict[Name, Drill] = {
    "worker": Drill(
        does="kill -9 of one of two workers; Ray Train starts both again",
        fault=lose_worker,
        workers=2,
    ),
    "node": Drill(
        does="a node with one of two workers is lost without a word, a spare one is there",
        fault=lose_node,
        workers=2,
    ),
    "driver": Drill(
        does="kill -9 of the command, which is typed again", fault=lose_driver, typed=2
    ),
    "spot": Drill(
        does=f"a node with one of two workers is lost {NOTICE_S:g} s after a spot market's notice",
        fault=partial(lose_node, notice_s=NOTICE_S),
        workers=2,
        longer=2,
        saves_lost=0,
    ),
    "storage": Drill(does=f"an S3 server refuses connections for {AWAY_S:g} s", fault=lose_storage),
    "tracking": Drill(
        does="kill -9 of the MLflow server; what it missed is pushed later",
        fault=lose_tracking,
        saves_lost=0,
    ),
}
