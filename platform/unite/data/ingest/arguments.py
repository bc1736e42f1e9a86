"""What `jobs/prepare_data.py` can be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from unite.data.ingest.prepare import PrepareConfig


@dataclass(frozen=True, kw_only=True)
class PrepareArguments(PrepareConfig):
    """Prepare images for training."""

    source: Annotated[str, tyro.conf.Positional]
    """Tree of class folders, .tar, folder of parquet, or builtin:digits."""
    num_cpus: float = 0
    """CPUs at work at once; 0 = all of the cluster."""
    dry_run: bool = False
    """Print counts and the estimated size, write nothing."""
