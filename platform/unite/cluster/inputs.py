"""The data sets of a run, as MLflow records them."""

from __future__ import annotations

from unite.config.schema import RunConfig
from unite.tracking import DataInput
from unite.training.setup import open_split


def data_inputs(config: RunConfig) -> list[DataInput]:
    """Training and held-out split of a resolved config with their digests."""
    found = []
    for split, asked in (("train", config.data.train), ("eval", config.data.eval)):
        shards = open_split(config, split)
        source = asked or config.data.train
        found.append(
            DataInput(
                name=f"{_name(source)} {split}",
                digest=shards.digest,
                source=shards.uri,
                context=split,
                num_rows=shards.num_rows,
            )
        )
    return found


def _name(place: str) -> str:
    """Name of a folder, or of what is built in: digits."""
    return place.removeprefix("builtin:").rstrip("/").rpartition("/")[2]
