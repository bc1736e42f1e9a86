"""Preparation before samples are counted: fitted extractors and reference statistics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from unite.config.schema import ImagesConfig
from unite.data.loader import sequential_batches
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.evaluation.chunks import FOLDER as CHUNKS
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.fitting import FitTask
from unite.evaluation.images.guards import self_test
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.sources import SMALL, Choice, ExtractorSource
from unite.evaluation.images.statistics import FOLDER as REFERENCES
from unite.evaluation.images.statistics import ReferenceTask, reference_uri
from unite.evaluation.task import Work, read_chunks, work_of
from unite.storage import Store

Run = Callable[[str, Sequence[Work]], None]
"""Function of (title, work) that computes the unfinished part of the work."""

TEST_IMAGES = 16
"""Real images that an extractor is tested with."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """Extractors and, for each, the file of its reference statistics."""

    sources: tuple[ExtractorSource, ...]
    references: tuple[str, ...]


def prepare_sources(
    choice: Choice, data: Dataset, images: ImagesConfig, storage: str, weights: str, run: Run
) -> tuple[ExtractorSource, ...]:
    """The chosen extractors; the small one is fitted unless the storage has it."""
    if SMALL in choice.places:
        task = FitTask.of(data, images, storage)
        run(task.title, work_of(task))
    sources = fitted_sources(choice.places, data, images, storage, weights)
    assert sources is not None
    return sources


def fitted_sources(
    places: Sequence[str], data: Dataset, images: ImagesConfig, storage: str, weights: str
) -> tuple[ExtractorSource, ...] | None:
    """The extractors at `places`; None while the small one of the data set is not fitted."""
    sources = []
    for place in places:
        if place == SMALL:
            task = FitTask.of(data, images, storage)
            if not all(work.finished for work in work_of(task)):
                return None
            place = task.out
        sources.append(ExtractorSource.open(place, images, weights))
    return tuple(sources)


def prepare_references(
    sources: Sequence[ExtractorSource],
    data: Dataset,
    images: ImagesConfig,
    storage: str,
    run: Run,
    *,
    given: str = "",
) -> tuple[str, ...]:
    """Reference files of the extractors, built where the storage lacks them.

    `given` stands for that of the first extractor. MetricError when one does not fit its extractor
    or is of other data.
    """
    files = []
    for number, source in enumerate(sources):
        file = (
            given if given and number == 0 else build_reference(data, images, source, storage, run)
        )
        check_reference(file, source, data)
        files.append(file)
    return tuple(files)


def build_reference(
    data: Dataset,
    images: ImagesConfig,
    source: ExtractorSource,
    storage: str,
    run: Run,
    *,
    out: str = "",
) -> str:
    """The reference file of a data set and an extractor; nothing is computed when it is there."""
    home = (Store.open(storage) / REFERENCES).uri
    task = ReferenceTask(total=data.num_rows, home=home, data=data, images=images, source=source)
    file = out or reference_uri(storage, task)
    if not Store.open(file).is_file():
        run(f"reference statistics on {source.name}", work_of(task))
        task.combine(read_chunks(task)).save(file)
        task.folder.delete(CHUNKS)
    return file


def check_reference(file: str, source: ExtractorSource, data: Dataset) -> Reference:
    """Read a reference and test it; MetricError when it cannot be used."""
    extractor = source.build()
    reference = Reference.load(file, extractor=extractor)
    reference.check(extractor, data_digest=data.digest)
    reference.gaussian.self_test()
    return reference


def try_extractors(sources: Sequence[ExtractorSource], data: Dataset, images: ImagesConfig) -> None:
    """Self-test of every extractor on real images, before a long job; MetricError if it fails."""
    domain = build_domain(images)
    shards = ShardSet.open(data.uri, data.split, domain.columns)
    limit = min(TEST_IMAGES, data.num_rows)
    batch = next(iter(sequential_batches(shards, domain, batch_size=limit, limit=limit)))
    pixels_BCHW = torch.from_numpy(batch.fields["image"]).permute(0, 3, 1, 2)
    for source in sources:
        self_test(source.build(), pixels_BCHW)
