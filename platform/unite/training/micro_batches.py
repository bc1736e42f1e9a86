"""A rank's share of a batch, on its device, in the pieces that go through the model one by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from unite.config.schema import TrainingConfig
from unite.domains.base import Domain
from unite.training.groups import COMPILED_MULTIPLE, groups
from unite.training.objective import MicroBatch
from unite.training.step import Address


def micro_batches(
    batch: Any, count: int, domain: Domain, config: TrainingConfig, device: torch.device
) -> Iterator[MicroBatch]:
    """The decoded batch of a rank as `count` equal micro-batches."""
    multiple = COMPILED_MULTIPLE if config.compile else 1
    cut = groups(domain, batch.fields, len(batch.rows_B), count, multiple=multiple)
    for rows, arrays in cut:
        fields = {
            name: torch.from_numpy(value).to(device, non_blocking=True)
            for name, value in arrays.items()
        }
        sample, labels_B = domain.to_sample(fields)
        address = Address(
            seed=config.seed,
            epochs_B=torch.from_numpy(batch.epochs_B[rows]).to(device, non_blocking=True),
            rows_B=torch.from_numpy(batch.rows_B[rows]).to(device, non_blocking=True),
        )
        yield MicroBatch(sample, labels_B, address)
