"""The small extractor of a data set: fitted by a worker, kept in the storage."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from unite.config.names import check_name
from unite.config.schema import ImagesConfig
from unite.evaluation.chunks import Chunk, partition
from unite.evaluation.dataset import Dataset
from unite.evaluation.images.small_card import CARD_FILE, FitOptions, read_fitted, training_flop
from unite.evaluation.images.sources import image_shape, small_name
from unite.evaluation.instruments import Instruments, Rows
from unite.evaluation.suite import Task
from unite.lazy import torch
from unite.metrics.accumulator import Totals
from unite.metrics.errors import MetricError
from unite.storage import Store
from unite.words import count, duration

if TYPE_CHECKING:
    from unite.evaluation.images.small import SmallExtractor

FOLDER = "extractors"
MOST_BYTES = 2 * 2**30
"""Largest memory for images in fitting; of a larger set, ranges spread over it are used."""
MOST_PASSES = 20
"""Largest number of passes over a small set: more cost minutes and gain nothing."""
MOST_SECONDS = 240.0
"""Longest fitting on one CPU thread, unless the number of images is given."""
THREAD_FLOPS = 33e9
"""Rate of one thread at it, FLOP/s (measured on CIFAR-10: 370 images/s)."""
RANGES = 1000
"""Ranges that such a set is divided into."""

logger = logging.getLogger(__name__)


def default_options(num_rows: int, images: ImagesConfig) -> FitOptions:
    """The extractor's own defaults, with fewer images where the set is small or they are large.

    The number follows from the images alone, never from who fits: the extractor is the same for
    everybody.
    """
    options = FitOptions()
    affordable = int(MOST_SECONDS * THREAD_FLOPS / training_flop(image_shape(images), options))
    least = 2 * options.batch_size
    most = max(least, affordable)
    return replace(options, images=min(options.images, MOST_PASSES * num_rows, most))


@dataclass(frozen=True, kw_only=True)
class FitTask(Task):
    """One chunk: load, fit, keep. Finished when the extractor's card is there."""

    suite: ClassVar[str] = "fit-extractor"
    counts_samples: ClassVar[bool] = False

    data: Dataset
    images: ImagesConfig
    name: str
    seed: int = 0
    options: FitOptions = field(default_factory=FitOptions)
    out: str = field(compare=False)
    """Folder of the extractor."""

    @classmethod
    def of(
        cls,
        data: Dataset,
        images: ImagesConfig,
        storage: str,
        *,
        name: str = "",
        out: str = "",
        seed: int = 0,
        options: FitOptions | None = None,
    ) -> FitTask:
        """The task for a data set's extractor, in the storage unless `out` names a folder."""
        name = check_name(name, "--name") if name else small_name(data.uri)
        folder = f"{name}-{data.digest[:12]}-{images.size}px-{images.channels}"
        return cls(
            total=data.num_rows,
            home=(Store.open(storage) / FOLDER).uri,
            data=data,
            images=images,
            name=name,
            seed=seed,
            options=options or default_options(data.num_rows, images),
            out=Store.open(out).uri if out else (Store.open(storage) / FOLDER / folder).uri,
        )

    def chunks(self) -> tuple[Chunk, ...]:
        """Fitting is one piece of work."""
        return partition(self.suite, self.total, 1)

    @property
    def title(self) -> str:
        """Title of the task: its work and its expected time."""
        flop = training_flop(image_shape(self.images), self.options)
        seconds = self.options.images * flop / THREAD_FLOPS
        return (
            f"fitting the extractor {self.name} on {count(self.options.images, 'image')}, about "
            f"{duration(max(seconds, 1.0))} on one CPU thread"
        )

    @property
    def cost(self) -> float:
        """Training images per image of the set, each forwards and backwards."""
        return 3.0 * self.options.images / self.total

    def is_finished(self, chunk: Chunk) -> bool:
        """True if the extractor is there; one of the storage that is damaged is told, and is not.

        What lies in a folder that a user named stays, and is judged where it is opened.
        """
        place = Store.open(self.out)
        if not (place.is_file(CARD_FILE) and place.is_below(Store(self.home))):
            return place.is_file(CARD_FILE)
        try:
            read_fitted(place)
        except MetricError as error:
            logger.warning("%s. It is fitted again", error)
            return False
        return True

    def check_kept(self, chunk: Chunk) -> None:
        """Nothing more: `is_finished` has read it."""

    def run(self, instruments: Instruments, chunk: Chunk) -> None:
        """Fit and keep the extractor."""
        self.fit(instruments).save(self.out)

    def totals(self, label: str, device: torch.device | str = "cpu") -> Totals:
        """Nothing is counted: the extractor is the result."""
        return {}

    def count(self, totals: Any, instruments: Instruments, chunk: Chunk) -> None:
        """Nothing is counted."""

    def fit(self, instruments: Instruments) -> SmallExtractor:
        """Train on the images and labels of the set."""
        from unite.evaluation.images.small import fit_extractor

        batches = list(self._rows(instruments))
        domain = instruments.domain(self.images)
        return fit_extractor(
            torch.cat([domain.render(rows.sample).cpu() for rows in batches]).permute(0, 3, 1, 2),
            torch.cat([rows.labels_B.cpu() for rows in batches]),
            name=self.name,
            seed=self.seed,
            options=self.options,
            device=instruments.device,
            data_digest=self.data.digest,
        )

    def _rows(self, instruments: Instruments) -> Iterator[Rows]:
        """All rows, or every k-th of RANGES ranges when they would not fit into memory."""
        size = self.total * self.images.channels * self.images.size**2
        stride = math.ceil(size / MOST_BYTES)
        ranges = 1 if stride == 1 else min(RANGES, self.total)
        for chunk in partition(self.suite, self.total, ranges)[::stride]:
            yield from instruments.rows(self.data, self.images, chunk)
