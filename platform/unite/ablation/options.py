"""Options of a sweep."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from unite.config.axes import Axis
from unite.config.effects import refuse_changed
from unite.config.recipes import recipe
from unite.config.scales import SCALES, ScaleName
from unite.config.schema import TrackingConfig
from unite.runs import default_storage, is_builtin
from unite.storage import Store

Equal = Literal["images", "compute"]
NAMED = ("values", "seeds", "equal", "epochs", "data", "samples", "extractor")
"""Options that decide what a figure shows: a sweep that sets one has a name of its own."""


@dataclass(frozen=True, kw_only=True)
class CommonOptions:
    """Options of sweeps of every kind."""

    seeds: int = 0
    """Trials per point or arm, with seeds 0, 1, ...; 0 = the scale's own number."""
    epochs: float = 0.0
    """Passes over the training set, at the recipe's own setting; 0 = the scale's."""
    extractor: tuple[str, ...] = ()
    """Features of the distances: inception, small, pixels or folders; empty = the scale's. Each
    judges a sweep of an axis, the first alone that of the decoder's fine-tuning."""
    samples: int = 0
    """Number of samples for distances, of each set where there are several; 0 = the scale's."""
    data: str = ""
    """Folder or s3:// URI of training shards; empty = the recipe's own (digits)."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    out: str = ""
    """Folder or s3:// URI for figure, table and verdict; empty = in the storage."""
    dry_run: bool = False
    """Show what would be trained and what is finished; start nothing. Of a grid, check data and
    capacity and tell the cost as well."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions(CommonOptions):
    """Train every point of an axis with several seeds, measure it, draw the paper's figure."""

    scale: ScaleName = "laptop"
    """smoke: seconds, learns nothing. laptop: digits on 2 CPU cores. molecules: QM9 on 2
    CPU cores. gpu: CIFAR-10. paper: ImageNet-256 on a cluster."""
    equal: Equal = "images"
    """Budget that is the same at every point: images, or training FLOPs (those of the recipe's own
    setting)."""
    values: tuple[str, ...] = ()
    """Values of the axis to try; empty = the scale's."""
    workers: int = 0
    """Ray Train workers of each trial; 0 = the scale's."""
    wait_s: float = 0.0
    """Seconds to wait for an autoscaling cluster to bring a trial's resources; 0 = they must
    be there."""
    rate: float = 0.0
    """FLOP/s of one trial for the time in --dry-run; 0 = measured on this machine."""
    tracking: TrackingConfig = field(default_factory=TrackingConfig)


def check(options: SweepOptions) -> None:
    """ValueError for values that no sweep can have."""
    require_not_negative(options, "seeds", "epochs", "samples", "workers", "wait_s", "rate")
    if options.extractor and not SCALES[options.scale].extractors:
        raise ValueError(
            f"--extractor {' '.join(options.extractor)} has no effect at --scale {options.scale}: "
            "its samples have distances of their own"
        )
    if not options.dry_run:
        refuse_changed(options, ("rate",), "without --dry-run")


def require_not_negative(options: CommonOptions, *names: str) -> None:
    """ValueError for the first of these options that is below 0."""
    for name in names:
        if getattr(options, name) < 0:
            flag = name.replace("_", "-")
            raise ValueError(f"--{flag} {getattr(options, name):g} must not be negative")


def complete(options: SweepOptions) -> SweepOptions:
    """Options with the scale's own values where none are given, and absolute places."""
    scale = SCALES[options.scale]
    data = options.data or recipe(scale.recipe).data.train
    return replace(
        options,
        seeds=options.seeds or scale.seeds,
        epochs=options.epochs or scale.epochs,
        data=Store.open(data).uri if data and not is_builtin(data) else data,
        samples=options.samples or scale.num_samples,
        extractor=options.extractor or scale.extractors,
        storage=Store.open(options.storage or default_storage()).uri,
    )


def settle(axis: Axis, options: SweepOptions) -> SweepOptions:
    """`complete`, with the values in the axis' order instead of the typed order."""
    options = complete(options)
    if not options.values:
        return options
    return replace(options, values=axis.chosen(options.scale, options.values))


def sweep_name(axis: Axis, options: SweepOptions) -> str:
    """Name of a settled sweep's folder and of its MLflow run: other points, another name."""
    usual = complete(SweepOptions(scale=options.scale))
    return f"sweep-{axis.name}-{options.scale}{distinction(options, usual)}"


def sweep_folder(axis: Axis, options: SweepOptions) -> Store:
    """Folder of a settled sweep, for files that belong to no single run."""
    return Store.open(options.storage) / "sweeps" / sweep_name(axis, options)


def distinction(options: CommonOptions, usual: CommonOptions, names: Sequence[str] = NAMED) -> str:
    """Suffix that tells a settled sweep from the usual one, such as "-values-1_14-epochs-3".

    Words that are not the whole value (a folder's last part) are followed by a digest of it.
    """
    changed = {
        name: value for name in names if (value := getattr(options, name)) != getattr(usual, name)
    }
    texts = {name: _texts(value) for name, value in changed.items()}
    words = {name: [_word(text) for text in each] for name, each in texts.items()}
    parts = [f"-{name}-{'_'.join(each)}" for name, each in words.items()]
    if words != texts:
        parts.append(f"-{hashlib.sha256(repr(texts).encode()).hexdigest()[:6]}")
    return "".join(parts)


def _texts(value: Any) -> list[str]:
    """A value as it would be typed."""
    if isinstance(value, tuple):
        return [text for each in value for text in _texts(each)]
    short = f"{value:g}" if isinstance(value, float) else str(value)
    return [short if isinstance(value, str) or float(short) == value else repr(value)]


def _word(text: str) -> str:
    """A text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text.rstrip("/").rpartition("/")[2]).strip("-")
