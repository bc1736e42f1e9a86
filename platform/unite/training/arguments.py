"""Options of `jobs/train.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from unite.config.schema import RunConfig


@dataclass(frozen=True, kw_only=True)
class TrainArguments:
    """Train UNITE (METHOD 3) from a named recipe; flags override its fields."""

    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    resume: str = "auto"
    """auto: continue this config's run if it exists. never: start a new run beside it. Or a run's
    name or folder, to continue it, or an older checkpoint's folder, to branch off."""
    allow_changes: bool = False
    """Continue a run although the config changed."""
    dry_run: bool = False
    """Check everything, print the plan (length, parameters, FLOPs), start nothing."""
