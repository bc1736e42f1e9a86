"""The guidance scale with the lowest Frechet distance: all of them, or a search that draws less.

Every scale uses the same seeds (common random numbers), so that differences between scales are not
noise of the draw, and a look at a part of the samples is a prefix of the full set: its chunks are
kept and count again when the scale is confirmed.

The search, on a grid of S scales with N samples each, for at most S N / 4 samples:
1. a sixteenth of the samples at every third scale, then at the four scales around the best;
2. three sixteenths of the samples at the best five;
3. all samples at the best and its two neighbours, and on downhill while the limit allows. The
   lowest of these is the answer; for a curve with one minimum it is proven (`Sweep.closed`) when
   its neighbours were measured on all samples too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

SCALES = tuple(round(1.0 + 0.2 * step, 1) for step in range(16))
"""Guidance scales: 1.0 to 4.0 in steps of 0.2 (METHOD 4)."""
COARSE, MIDDLE, FULL = 1 / 16, 3 / 16, 1.0
STRIDE = 3

Measure = Callable[[Sequence[int], float], Sequence[float]]
"""Function: (indices of scales, share of the samples) -> Frechet distance at each."""


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Result of a sweep."""

    scales: tuple[float, ...]
    best: int
    """Index of the best scale, measured on all samples."""
    distances: dict[int, float]
    """Index of a scale -> distance on the largest share that was measured."""
    shares: dict[int, float]
    """Largest share of the samples that was drawn at each scale."""
    closed: bool
    """True if both neighbours of the best were measured on all samples and are worse."""

    @property
    def cost(self) -> float:
        """Samples drawn, in units of N."""
        return sum(self.shares.values())


def full_sweep(scales: Sequence[float], measure: Measure) -> Sweep:
    """Measure every scale on all samples."""
    indices = range(len(scales))
    distances = dict(zip(indices, measure(indices, FULL), strict=True))
    return Sweep(
        scales=tuple(scales),
        best=min(distances, key=distances.__getitem__),
        distances=distances,
        shares=dict.fromkeys(indices, FULL),
        closed=True,
    )


def adaptive_sweep(scales: Sequence[float], measure: Measure) -> Sweep:
    """Find the scale that `full_sweep` finds on a curve with one minimum; see the module's top."""
    num, search = len(scales), _Search(measure)
    best = search.best(range(0, num, STRIDE), COARSE)
    best = search.best(_near(best, STRIDE - 1, num), COARSE)
    best = search.best(_near(best, 2, num), MIDDLE)
    best = search.best(_near(best, 1, num), FULL)
    while (new := search.unconfirmed(_near(best, 1, num))) and search.cost(new) <= num / 4:
        best = search.best(_near(best, 1, num), FULL)
    return Sweep(
        scales=tuple(scales),
        best=best,
        distances={index: search.distances[index] for index in sorted(search.distances)},
        shares={index: search.shares[index] for index in sorted(search.shares)},
        closed=not search.unconfirmed(_near(best, 1, num)),
    )


class _Search:
    """Distances so far; a scale is measured again only on a larger share."""

    def __init__(self, measure: Measure) -> None:
        self.measure = measure
        self.shares: dict[int, float] = {}
        self.distances: dict[int, float] = {}

    def best(self, indices: Iterable[int], share: float) -> int:
        """The index with the lowest distance on `share` of the samples, or on more."""
        indices = list(indices)
        new = [index for index in indices if self.shares.get(index, 0.0) < share]
        if new:
            self.distances |= dict(zip(new, self.measure(new, share), strict=True))
            self.shares |= dict.fromkeys(new, share)
        return min(indices, key=self.distances.__getitem__)

    def unconfirmed(self, indices: Iterable[int]) -> list[int]:
        """Indices that were not measured on all samples."""
        return [index for index in indices if self.shares.get(index, 0.0) < FULL]

    def cost(self, new: Sequence[int]) -> float:
        """Samples drawn once `new` are measured on all samples, in units of N."""
        return sum((self.shares | dict.fromkeys(new, FULL)).values())


def _near(index: int, reach: int, num: int) -> range:
    """Indices up to `reach` away, inside the grid."""
    return range(max(0, index - reach), min(num, index + reach + 1))
