"""Reference statistics of a data set as a distributed task, and the store that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from unite.config.schema import ImagesConfig
from unite.evaluation.chunks import Arrays, Chunk
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.counting import Counter, Totals, plan_of
from unite.evaluation.images.reference import Made, Reference
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments
from unite.evaluation.task import Task
from unite.metrics.moments import MetricError
from unite.metrics.versions import library_versions
from unite.storage import Store

FOLDER = "references"


@dataclass(frozen=True, kw_only=True)
class ReferenceTask(Task):
    """All images of a data set through one extractor."""

    suite: ClassVar[str] = "reference"

    data: Dataset
    images: ImagesConfig
    source: ExtractorSource

    def measure(self, instruments: Instruments, chunk: Chunk) -> Arrays:
        """Count the rows of a chunk; MetricError when one cannot be decoded."""
        counter = Counter((self.source,), (plan_of(self.source, self.total),), instruments)
        histogram = torch.zeros(self.images.num_classes, dtype=torch.int64)
        for rows in instruments.rows(self.data, self.images, chunk):
            counter.update(rows.rows_B.cpu().numpy(), rows.pixels_BCHW)
            histogram += rows.labels_B.cpu().bincount(minlength=self.images.num_classes)
        if int(histogram.sum()) != len(chunk):
            raise MetricError(
                f"{len(chunk) - int(histogram.sum())} of the rows {chunk.start}..{chunk.stop - 1} "
                f"of {self.data.uri} cannot be decoded, and a reference must hold every image: "
                "prepare the data again (jobs/prepare_data.py)"
            )
        return {"histogram": histogram.numpy(), **counter.to_arrays("real")}

    def combine(self, chunks: Sequence[Arrays]) -> Reference:
        """The statistics of all rows, with their matrix root."""
        totals = Totals.zeros(("real",), (plan_of(self.source, self.total),))
        histogram = np.zeros(self.images.num_classes, np.int64)
        for chunk in chunks:
            totals.add(chunk)
            histogram += chunk["histogram"]
        made = Made(
            data=self.data.uri,
            data_digest=self.data.digest,
            split=self.data.split,
            image_rule=f"centre crop as in ADM to {self.images.size} pixels, uint8",
            versions=library_versions(),
        )
        return Reference.of(
            totals.statistics["real", 0],
            self.source.build(),
            made,
            label_histogram=histogram,
        ).with_root()


def reference_uri(storage: str, task: ReferenceTask) -> str:
    """File that keeps the reference of a data set and an extractor."""
    name = f"{task.data.digest[:16]}-{task.data.split}-{task.source.digest[:16]}.npz"
    return str(Store.open(storage) / FOLDER / name)
