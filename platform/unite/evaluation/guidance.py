"""The guidance scale with the lowest Frechet distance: all of them, or a search that draws less.

Every scale uses the same seeds (common random numbers), so that differences between scales are not
noise of the draw, and a look at a part of the samples is a prefix of the full set: its chunks are
kept and count again when the scale is confirmed. Every scale is an ordinary generation suite, so
the samples at the best scale are the suite's own work.

The search, on a grid of S scales with N samples each, for at most S N / 4 samples:
1. a sixteenth of the samples at every third scale, then at the four scales around the best;
2. three sixteenths of the samples at the best five;
3. all samples at the best and its two neighbours, and on downhill while the limit allows. The
   lowest of these is the answer; for a curve with one minimum it is proven (`Sweep.closed`) when
   its neighbours were measured on all samples too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal, TypeVar

from unite.config.axes import CFG
from unite.evaluation.arguments import EvaluateArguments
from unite.evaluation.chunks import FEWEST_SAMPLES, LEAST_CHUNKS, read_chunk
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suite import Run, WorkItem, work_items
from unite.figures.chart import Figure
from unite.figures.guidance import guidance_figure
from unite.figures.sheet import picture

if TYPE_CHECKING:
    from unite.evaluation.suites.images_generation import Generation

SUITE = "cfg_sweep"
Searched = TypeVar("Searched", bound="Generation")
SCALES = tuple(map(float, CFG.fields))
"""Guidance scales, those of the ablation's axis: 1.0 to 4.0 in steps of 0.2 (METHOD 4). Its trials
measure the curve, a point at each scale with all samples; here the best scale is searched, in the
same folders, so that either finds the samples of the other."""
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


def search_of(arguments: EvaluateArguments) -> Literal["", "full", "adaptive"]:
    """Kind of search that a request asks for; empty = none."""
    if arguments.cfg_sweep:
        return "full"
    return "adaptive" if arguments.cfg_adaptive else ""


def search_scale(base: Searched, run: Run) -> Searched:
    """The suite at the scale that its search finds; the outcome is kept in its folder."""
    suites = [base.at_scale(scale) for scale in SCALES]
    adaptive = base.search == "adaptive" and not too_few_to_search(base.total)

    def measure(indices: Sequence[int], share: float) -> list[float]:
        items = [item for index in indices for item in prefix(suites[index], share)]
        run(f"guidance, {len(indices)} scales at {share:.3g} of the samples", items)
        return [_distance(suites[index], share) for index in indices]

    sweep = (adaptive_sweep if adaptive else full_sweep)(SCALES, measure)
    best = suites[sweep.best]
    _outcome(best, sweep).save(best.folder / SUITE)
    return best


def too_few_to_search(num_samples: int) -> str:
    """Reason why so few samples leave nothing to save; empty when there are enough.

    A look at a part takes whole chunks, so that what it draws counts again later. With fewer chunks
    than LEAST_CHUNKS the smallest look is more than the search counts on.
    """
    least = LEAST_CHUNKS * FEWEST_SAMPLES
    if num_samples >= least:
        return ""
    return (
        f"--cfg-adaptive needs {least} samples to get by with a quarter of a full sweep's, and "
        f"there are {num_samples}: every scale is measured on all of them"
    )


def at_the_end(sweep: Sweep) -> str:
    """Note that no larger scale was there to be worse; empty where one was.

    The other end of the grid needs none: at 1 there is no guidance.
    """
    if sweep.best < len(sweep.scales) - 1:
        return ""
    return (
        f"The best scale is the largest that was tried, {sweep.scales[-1]:g}: the distance may be "
        "lower beyond it (--cfg-scale)."
    )


def prefix(suite: Generation, share: float) -> list[WorkItem]:
    """The first chunks of a suite: at most `share` of them, at least one."""
    items = work_items(suite)
    return items[: max(1, int(len(items) * share + 1e-9))]


def _distance(suite: Generation, share: float) -> float:
    chunks = (read_chunk(suite.folder, item.chunk) for item in prefix(suite, share))
    return suite.distance(chunks, complete=share == FULL)


def _drawn(suite: Generation, sweep: Sweep) -> int:
    """Samples of all scales together; a prefix holds whole chunks."""
    return sum(len(i.chunk) for share in sweep.shares.values() for i in prefix(suite, share))


def _outcome(best: Generation, sweep: Sweep) -> Outcome:
    name, adaptive = best.distance_name, best.search == "adaptive"
    fields = {
        **best.protocol_fields(nfe=0.0),
        "cfg_scale": 1.0,  # it is the outcome
        "details": {"scales": list(sweep.scales), "metric": name, "adaptive": adaptive},
    }
    scale = best.card("best_cfg_scale", best.sampling.cfg_scale, suite=SUITE, **fields)
    drawn = best.card("samples_drawn", _drawn(best, sweep), suite=SUITE, **fields)
    few = too_few_to_search(best.total) if adaptive else ""
    open_end = (
        "The best scale has a neighbour that was not measured on all samples: --cfg-sweep would "
        "tell for certain."
    )
    told = (few, "" if sweep.closed else open_end, at_the_end(sweep))
    content = {"metric": name, "total": best.total, **asdict(sweep), "card": scale.of_many()}
    return Outcome(
        suite=SUITE,
        protocol=f"lowest {name} of {best.total:,} samples, the same seeds at every scale",
        rows=(
            Row(card=scale, note=f"lowest {name}, scales {SCALES[0]:g} to {SCALES[-1]:g}"),
            Row(card=drawn, note=f"a full sweep draws {len(SCALES) * best.total:,}"),
        ),
        remarks=tuple(remark for remark in told if remark),
        files={
            "cfg_sweep.json": json.dumps(content, indent=1).encode(),
            "cfg_sweep.png": picture(_figure(sweep, name)).png,
        },
    )


def _figure(sweep: Sweep, metric: str) -> Figure:
    distances = {sweep.scales[index]: value for index, value in sweep.distances.items()}
    shares = {sweep.scales[index]: share for index, share in sweep.shares.items()}
    return guidance_figure(distances, shares, sweep.scales[sweep.best], metric)
