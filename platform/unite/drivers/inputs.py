"""The data sets of a run, as MLflow records them."""

from __future__ import annotations

from typing import Literal

from unite.config.schema import RunConfig
from unite.data.parts import parts_of
from unite.tracking import DataInput
from unite.training.setup import open_split


def data_inputs(config: RunConfig) -> list[DataInput]:
    """Training and held-out split of a resolved config with their digests."""
    held_out = config.data.eval or config.data.train
    return [_input(config, "train", config.data.train), _input(config, "eval", held_out)]


def _input(config: RunConfig, split: Literal["train", "eval"], place: str) -> DataInput:
    shards = open_split(config, split)
    return DataInput(
        name=f"{_name(place)} {split}",
        digest=shards.digest,
        source=shards.uri,
        context=split,
        num_rows=shards.num_rows,
    )


def _name(place: str) -> str:
    """Name of a folder, of each of several, or of the built-in data set: digits."""
    place = place.removeprefix("builtin:")
    return " and ".join(part.rstrip("/").rpartition("/")[2] for part in parts_of(place))
