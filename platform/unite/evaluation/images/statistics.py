"""Reference statistics of a data set as a distributed task, and the store that keeps them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from unite.config.schema import ImagesConfig
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.distances import count_features, feature_totals, plan_of
from unite.evaluation.images.reference import Origin, Reference
from unite.evaluation.images.sources import ExtractorSource
from unite.evaluation.instruments import Instruments
from unite.evaluation.suite import Task, read_chunks
from unite.lazy import torch
from unite.metrics.accumulator import Sums, Totals
from unite.metrics.errors import MetricError
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

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Features on the extractor, and the histogram of classes."""
        plans = (plan_of(self.source, self.total),)
        return {"histogram": Sums("histogram"), **feature_totals("real", plans, device)}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Count the rows of a chunk; MetricError when one cannot be decoded."""
        domain, counted = instruments.domain(self.images), 0
        for rows in instruments.rows(self.data, self.images, chunk):
            pixels_BHWC = domain.render(rows.sample)
            indices_B = rows.rows_B.cpu().numpy()
            count_features(totals, "real", (self.source,), instruments, indices_B, pixels_BHWC)
            num_C = rows.labels_B.cpu().bincount(minlength=self.images.num_classes)
            totals["histogram"].update(histogram=num_C[: self.images.num_classes].numpy())
            counted += len(indices_B)
        if counted != len(chunk):
            raise MetricError(
                f"{len(chunk) - counted} of the rows {chunk.start}..{chunk.stop - 1} "
                f"of {self.data.uri} cannot be decoded, and a reference must hold every image: "
                "prepare the data again (jobs/prepare_data.py)"
            )

    def reference(self) -> Reference:
        """The statistics of all rows, whose chunks are there, with their matrix root."""
        totals: Any = self.merged(read_chunks(self))
        made = Origin(
            data=self.data.uri,
            data_digest=self.data.digest,
            split=self.data.split,
            image_rule=f"centre crop as in ADM to {self.images.size} pixels, uint8",
            versions=library_versions(),
        )
        return Reference.of(
            totals["real/0/"],
            self.source.build(),
            made,
            label_histogram=totals["histogram"].result()["histogram"],
        ).with_root()


def reference_uri(storage: str, task: ReferenceTask) -> str:
    """File that keeps the reference of a data set and an extractor."""
    name = f"{task.data.digest[:16]}-{task.data.split}-{task.source.digest[:16]}.npz"
    return str(Store.open(storage) / FOLDER / name)
