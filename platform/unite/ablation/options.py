"""What a sweep can be asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from unite.config.scales import ScaleName
from unite.config.schema import TrackingConfig

Equal = Literal["images", "compute"]


@dataclass(frozen=True, kw_only=True)
class SweepOptions:
    """Train every point of an axis with several seeds, measure it, draw the paper's figure."""

    scale: ScaleName = "laptop"
    """smoke: seconds, learns nothing. laptop: digits on 2 CPU cores. gpu: CIFAR-10. paper:
    ImageNet-256 on a cluster."""
    seeds: int = 0
    """Trials per point, with seeds 0, 1, ...; 0 = the scale's own number."""
    equal: Equal = "images"
    """What every point gets the same of: images, or training FLOPs (those of the recipe's own
    setting)."""
    values: tuple[str, ...] = ()
    """Only these values of the axis; empty = the scale's."""
    epochs: float = 0.0
    """Passes over the training set at the recipe's own setting; 0 = the scale's."""
    data: str = ""
    """Folder or s3:// URI of training shards; empty = the recipe's own (digits)."""
    extractor: tuple[str, ...] = ()
    """Features of the distances: inception, small, pixels or folders; empty = the scale's. The
    verdict is about the first."""
    samples: int = 0
    """Samples that distances are measured on; 0 = the scale's."""
    workers: int = 0
    """Ray Train workers of each trial; 0 = the scale's."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    out: str = ""
    """Folder or s3:// URI for figure, CSV and verdict; empty = in the storage."""
    dry_run: bool = False
    """Show the trials, their cost and what is already finished; start nothing."""
    rate: float = 0.0
    """FLOP/s of one trial for the time in --dry-run; 0 = measured on this machine."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def check(options: SweepOptions) -> None:
    """ValueError for values that no sweep can have."""
    for name in ("seeds", "epochs", "samples", "workers", "rate"):
        if getattr(options, name) < 0:
            raise ValueError(f"--{name} {getattr(options, name):g} must not be negative")
