"""Preparation of the image suites: fitted extractors and reference statistics, made once."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Self

from unite.config.schema import ImagesConfig
from unite.data.shards import ShardSet
from unite.domains import build_domain
from unite.evaluation.chunks import FOLDER as CHUNKS
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.fitting import FitTask
from unite.evaluation.images.guards import self_test
from unite.evaluation.images.reference import Reference
from unite.evaluation.images.small_card import FitOptions
from unite.evaluation.images.sources import SMALL, ExtractorSource, choose
from unite.evaluation.images.statistics import FOLDER as REFERENCES
from unite.evaluation.images.statistics import ReferenceTask, reference_uri
from unite.evaluation.suite import Run, work_items
from unite.lazy import torch
from unite.metrics.errors import MetricError
from unite.storage import StorageError, Store

TEST_IMAGES = 16
"""Real images that an extractor is tested with."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Extractors:
    """Extractors that were asked for on a data set, and their place in the storage."""

    places: tuple[str, ...]
    """Names and folders; SMALL stands for the one that is fitted on the data set."""
    remarks: tuple[str, ...] = ()
    """Reasons for the choice, where it is not the usual one."""
    data: Dataset
    images: ImagesConfig
    storage: str
    """Storage that keeps extractors and references."""
    weights: str = ""
    """Folder or URI of pretrained files."""

    @classmethod
    def of(
        cls,
        requested: Sequence[str],
        data: Dataset,
        images: ImagesConfig,
        storage: str,
        weights: str = "",
    ) -> Self:
        """The extractors of a request; errors as from `choose`."""
        places, remarks = choose(requested, images, weights)
        return cls(
            places=places,
            remarks=remarks,
            data=data,
            images=images,
            storage=storage,
            weights=weights,
        )

    @property
    def fit(self) -> FitTask | None:
        """Task that fits the small extractor, if it is among them and not there."""
        task = FitTask.of(self.data, self.images, self.storage) if SMALL in self.places else None
        return task if task and any(not item.finished for item in work_items(task)) else None

    @property
    def sources(self) -> tuple[ExtractorSource, ...] | None:
        """The extractors; None while the small one is not fitted."""
        if self.fit:
            return None
        return tuple(self._open(place) for place in self.places)

    def prepared(self, run: Run) -> tuple[ExtractorSource, ...]:
        """The extractors, fitted where need be, and tested on real images.

        MetricError when one fails its test.
        """
        if task := self.fit:
            run(task.title, work_items(task))
        sources = self.sources
        assert sources is not None
        try_extractors(sources, self.data, self.images)
        return sources

    def references(self, run: Run, given: str = "") -> tuple[str, ...]:
        """Reference files of the prepared extractors, built where the storage lacks them.

        `given` stands for that of the first one. MetricError when one does not fit its extractor
        or is of other data.
        """
        assert self.sources is not None
        files = []
        for number, source in enumerate(self.sources):
            file = given if given and not number else self.reference(source, run)
            check_reference(file, source, self.data)
            files.append(file)
        return tuple(files)

    def reference(self, source: ExtractorSource, run: Run, *, out: str = "") -> str:
        """Reference file of an extractor, at `out` or in the storage; built unless it is there.

        One of the storage that is damaged is built again.
        """
        task = self._task(source)
        file = out or reference_uri(self.storage, task)
        if not (_is_whole(file) if not out else Store.open(file).is_file()):
            run(f"reference statistics on {source.name}", work_items(task))
            try:
                task.reference().save(file)
            except StorageError:
                # Another command that built it meanwhile has removed the chunks, once it was saved.
                if not _is_whole(file):
                    raise
            task.folder.delete(CHUNKS)
        return file

    def stored_reference(self, source: ExtractorSource) -> str:
        """Reference file of an extractor in the storage; empty where there is none."""
        file = reference_uri(self.storage, self._task(source))
        return file if Store.open(file).is_file() else ""

    def _task(self, source: ExtractorSource) -> ReferenceTask:
        home = (Store.open(self.storage) / REFERENCES).uri
        return ReferenceTask(
            total=self.data.num_rows, home=home, data=self.data, images=self.images, source=source
        )

    def check_given(self, given: str) -> None:
        """MetricError for a file that is no reference, or does not fit the first extractor."""
        if self.places[0] != SMALL:
            check_reference(given, self._open(self.places[0]), self.data)
            return
        width = Reference.load(given).mu_F.size  # the rest is known once the extractor is fitted
        if width != FitOptions.num_features:
            raise MetricError(
                f"--reference {given} has {width} features, and the small extractor that is fitted "
                f"on the training data has {FitOptions.num_features}: name the --extractor that "
                "the reference was made with, or leave --reference out"
            )

    def _open(self, place: str) -> ExtractorSource:
        if place == SMALL:
            place = FitTask.of(self.data, self.images, self.storage).out
        return ExtractorSource.open(place, self.images, self.weights)


def _is_whole(file: str) -> bool:
    """True if reference statistics are there and can be read; damaged ones are told."""
    if not Store.open(file).is_file():
        return False
    try:
        Reference.load(file)
    except MetricError as error:
        logger.warning("%s. They are built again", error)
        return False
    return True


def check_reference(file: str, source: ExtractorSource, data: Dataset) -> Reference:
    """Read a reference and test it; MetricError when it cannot be used."""
    extractor = source.build()
    reference = Reference.load(file, extractor=extractor)
    reference.check(extractor, data_digest=data.digest)
    reference.gaussian.self_test()
    return reference


@cache
def try_extractors(
    sources: tuple[ExtractorSource, ...], data: Dataset, images: ImagesConfig
) -> None:
    """Self-test of every extractor on real images, before a long job; MetricError if it fails."""
    from unite.data.loader import sequential_batches

    domain = build_domain(images)
    shards = ShardSet.open(data.uri, data.split, domain.columns)
    limit = min(TEST_IMAGES, data.num_rows)
    batch = next(iter(sequential_batches(shards, domain, batch_size=limit, limit=limit)))
    pixels_BCHW = torch.from_numpy(batch.fields["image"]).permute(0, 3, 1, 2)
    for source in sources:
        self_test(source.build(), pixels_BCHW)
