"""Instruments of a worker: models, data, the device and whatever a suite needs, each made once.

Shapes: B batch, K registers.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from unite.config.schema import DomainConfig, Precision
from unite.data.shards import ShardSet
from unite.domains.registry import build_domain
from unite.evaluation.chunks import Chunk
from unite.evaluation.dataset import Dataset
from unite.lazy import torch

if TYPE_CHECKING:
    from torch import Tensor

    from unite.domains import Domain
    from unite.models.unite import UNITE

LEAST_ROWS = 16
"""Rows of a network's batch from which on a CPU rounds each row alike, whatever their number: its
matrix products take other paths for fewer (measured; tests/evaluation/test_instruments.py)."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """A batch of a data set on the device."""

    rows_B: Tensor
    """Row numbers, int64."""
    sample: Any
    """Sample as the domain's model reads it."""
    labels_B: Tensor
    mask_BK: Tensor | None
    """True at registers in use; None = all."""


@dataclass(kw_only=True)
class Instruments:
    """Caches of one process. `batch_size` bounds what is computed at once; on a CPU it changes
    results by float32 rounding at most (tested), on a GPU that has not been measured."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    batch_size: int = 64
    _models: dict[tuple[str, bool, Precision], UNITE] = field(default_factory=dict)
    _others: dict[Any, Any] = field(default_factory=dict)

    def model(self, uri: str, *, ema: bool, precision: Precision = "float32") -> UNITE:
        """The model at `uri` on this device; in bfloat16 with fused kernels, where it takes them.

        ValueError for a precision that the device lacks.
        """
        from unite.checkpoints.load import load
        from unite.models.kernels.choose import use_kernels
        from unite.sampling.precision import require_precision

        key = uri, ema, precision
        if key not in self._models:
            require_precision(precision, self.device)
            self._models.clear()  # two models would not fit
            model = load(uri, ema=ema, map_location=self.device)
            if precision == "bfloat16" and self.device.type == "cuda":
                shape = model.tokenizer.config
                use_kernels(model, self.device, width=shape.width, num_heads=shape.num_heads)
            self._models[key] = model
        return self._models[key]

    def cached(self, key: Any, make: Callable[[], Any]) -> Any:
        """Anything else that is made once: `make()` on first use."""
        if key not in self._others:
            self._others[key] = make()
        return self._others[key]

    @property
    def machine(self) -> dict[str, str]:
        """Hardware and settings behind speed, for the cards of rates."""
        if self.device.type == "cuda":
            device = torch.cuda.get_device_name(self.device)
        else:
            device = f"{platform.machine()} CPU"
        return {
            "device": device,
            "threads": str(torch.get_num_threads()),
            "batch": str(self.batch_size),
        }

    def batch(self, num: int) -> int:
        """Rows of each batch of `num`, so that no batch, the last included, has under LEAST_ROWS.

        The largest such number up to `batch_size`, or up to twice LEAST_ROWS where that is more.
        """
        most = max(self.batch_size, 2 * LEAST_ROWS)
        sizes = (*range(min(num, most), LEAST_ROWS - 1, -1), *range(most + 1, num + 1), num)
        return next(size for size in sizes if num % size == 0 or num % size >= LEAST_ROWS)

    def domain(self, config: DomainConfig) -> Domain:
        """Domain of this config."""
        return self.cached(config, lambda: build_domain(config))

    def rows(self, data: Dataset, config: DomainConfig, chunk: Chunk) -> Iterator[Rows]:
        """Batches of a chunk of the first `chunk.total` rows of a data set."""
        from unite.data.loader import sequential_batches

        domain = self.domain(config)
        shards = self.cached(data, lambda: ShardSet.open(data.uri, data.split, domain.columns))
        batches = sequential_batches(
            shards,
            domain,
            batch_size=self.batch(len(chunk)),
            rank=chunk.index,
            world=chunk.count,
            limit=chunk.total,
        )
        for batch in batches:
            yield self._place(domain, batch.rows_B, batch.fields)

    def autocast(self, precision: Precision) -> AbstractContextManager[Any]:
        """The context that a model runs in."""
        from unite.sampling.precision import autocast

        return autocast(precision, self.device)

    def _place(self, domain: Domain, rows_B: np.ndarray, fields: dict[str, np.ndarray]) -> Rows:
        placed = {name: torch.from_numpy(value).to(self.device) for name, value in fields.items()}
        sample, labels_B = domain.to_sample(placed)
        return Rows(
            rows_B=torch.from_numpy(rows_B).to(self.device),
            sample=sample,
            labels_B=labels_B,
            mask_BK=domain.register_mask(sample),
        )


def exact_convolutions() -> AbstractContextManager[None]:
    """Context in which cuDNN convolves in full float32 with deterministic algorithms."""
    return torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
