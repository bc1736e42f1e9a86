"""Options of `jobs/prepare_data.py`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Annotated

import tyro

from unite.config.effects import refuse_changed
from unite.data.ingest.digits import BUILTIN_DIGITS
from unite.data.ingest.prepare import PrepareConfig


@dataclass(frozen=True, kw_only=True)
class PrepareArguments(PrepareConfig):
    """Prepare images for training."""

    source: Annotated[str, tyro.conf.Positional]
    """Tree of class folders, .tar, folder of parquet, or builtin:digits. Of folders or files that
    are named for splits (train, val, test, in any place of the name) those of --split are taken.
    What is hidden or left by a system (.DS_Store, __MACOSX) is counted, not read."""
    num_cpus: float = 0
    """CPUs at work at once; 0 = all of the cluster."""
    dry_run: bool = False
    """Encode a row of every shard, print counts and the estimated size, write nothing."""


def check_digits(arguments: PrepareArguments) -> None:
    """ValueError for options that do nothing to the built-in digits."""
    acting = ("source", "out", "dry_run")
    others = [item.name for item in fields(arguments) if item.name not in acting]
    refuse_changed(arguments, others, f"on {BUILTIN_DIGITS}, which are as they are")
