"""The guidance sweep on the generation suite: the scale with the lowest Frechet distance.

Scales share seeds, and every scale is an ordinary generation task, so the sweep's samples at the
best scale are the suite's own work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from unite.evaluation.chunks import FEWEST_SAMPLES, LEAST_CHUNKS, read_chunk
from unite.evaluation.images.counting import (
    Totals,
    extractor_fields,
    load_reference,
    reference_fields,
)
from unite.evaluation.images.extractors import metric_name
from unite.evaluation.images.reference import Reference
from unite.evaluation.results import Outcome, Row
from unite.evaluation.suites.generation import Generation
from unite.evaluation.sweep import FULL, SCALES, Sweep, adaptive_sweep, full_sweep
from unite.evaluation.task import Work, work_of
from unite.figures.chart import Figure
from unite.figures.guidance import guidance_figure
from unite.figures.sheet import picture

SUITE = "cfg_sweep"


def at_scale(task: Generation, scale: float) -> Generation:
    """The same samples under another guidance scale."""
    return replace(task, sampling=replace(task.sampling, cfg_scale=scale))


def sweep_guidance(
    base: Generation, run: Callable[[str, Sequence[Work]], None], *, adaptive: bool
) -> tuple[Generation, Outcome]:
    """The generation task at the best scale, and the outcome of the sweep."""
    reference = load_reference(base.references[0], base.sources[0])
    tasks = [at_scale(base, scale) for scale in SCALES]
    search = adaptive_sweep if adaptive and not too_few_to_search(base.total) else full_sweep

    def measure(indices: Sequence[int], share: float) -> list[float]:
        works = [work for index in indices for work in prefix(tasks[index], share)]
        run(f"guidance, {len(indices)} scales at {share:.3g} of the samples", works)
        return [distance(tasks[index], share, reference) for index in indices]

    sweep = search(SCALES, measure)
    return tasks[sweep.best], _outcome(tasks[sweep.best], sweep, adaptive, reference)


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


def prefix(task: Generation, share: float) -> list[Work]:
    """The first chunks of a task: at most `share` of them, at least one."""
    works = work_of(task)
    return works[: max(1, int(len(works) * share + 1e-9))]


def distance(task: Generation, share: float, reference: Reference) -> float:
    """Frechet distance of a prefix of the samples, on the first extractor."""
    totals = Totals.zeros(("fake",), task.plans[:1])
    for work in prefix(task, share):
        totals.add(read_chunk(task.folder, work.chunk))
    if share == FULL:
        totals.check_complete()
    return reference.gaussian.distance(totals.statistics["fake", 0].gaussian())


def _drawn(task: Generation, sweep: Sweep) -> int:
    """Samples of all scales together; a prefix holds whole chunks."""
    return sum(len(work.chunk) for share in sweep.shares.values() for work in prefix(task, share))


def _outcome(best: Generation, sweep: Sweep, adaptive: bool, reference: Reference) -> Outcome:
    name = metric_name(best.sources[0].id)
    fields = {
        **best.sampling_fields(nfe=0.0),
        **extractor_fields(best.sources[0]),
        **reference_fields(reference, best.encoding),
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
    content = {"metric": name, "total": best.total, **asdict(sweep), "card": scale.of_many()}
    return Outcome(
        suite=SUITE,
        protocol=f"lowest {name} of {best.total:,} samples, the same seeds at every scale",
        rows=(
            Row(card=scale, note=f"lowest {name}, scales {SCALES[0]:g} to {SCALES[-1]:g}"),
            Row(card=drawn, note=f"a full sweep draws {len(SCALES) * best.total:,}"),
        ),
        remarks=tuple(remark for remark in (few, "" if sweep.closed else open_end) if remark),
        files={
            "cfg_sweep.json": json.dumps(content, indent=1).encode(),
            "cfg_sweep.png": picture(_figure(sweep, name)).png,
        },
    )


def _figure(sweep: Sweep, metric: str) -> Figure:
    distances = {sweep.scales[index]: value for index, value in sweep.distances.items()}
    shares = {sweep.scales[index]: share for index, share in sweep.shares.items()}
    return guidance_figure(distances, shares, sweep.scales[sweep.best], metric)
