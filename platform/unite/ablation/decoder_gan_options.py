"""Options and scales of `ablations/sweep_decoder_gan.py`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from unite.ablation.decoder_gan import ARMS, CONTROL, GE
from unite.ablation.options import CommonOptions, distinction, require_not_negative
from unite.config.recipes import recipe
from unite.config.scales import Fields
from unite.runs import default_storage, is_builtin
from unite.storage import Store

ScaleName = Literal["smoke", "laptop", "cifar10", "gpu"]
NAMED = ("run", "parents", "arms", "seeds", "epochs", "samples", "extractor")
"""Options that decide what the table shows: a sweep that sets one has a folder of its own."""


@dataclass(frozen=True, kw_only=True)
class GanScale:
    """Parents, length and protocol of a sweep."""

    parent: str
    """Recipe of the parents that the sweep trains."""
    parents: int
    seeds: int
    recipe: str
    """Fine-tuning's recipe."""
    samples: int
    """Samples in each set."""
    extractors: tuple[str, ...]
    arms: tuple[str, ...] = tuple(ARMS)
    epochs: float = 0.0
    """Passes of the fine-tuning; 0 = its recipe's."""
    parent_fields: Fields = field(default_factory=dict)
    """Further overrides of the parents' recipe."""
    fields: Fields = field(default_factory=dict)
    """Further overrides of the fine-tuning's recipe."""
    use_gpu: bool = False
    """Reserve one GPU per worker, for parents and fine-tunings."""


GAN_SCALES: dict[ScaleName, GanScale] = {
    "smoke": GanScale(
        parent="smoke",
        parents=1,
        seeds=1,
        recipe="small",
        samples=60,
        extractors=("pixels",),
        epochs=2.1,
    ),
    "laptop": GanScale(
        parent="digits-blurred",
        parents=2,
        seeds=3,
        recipe="small",
        samples=500,
        extractors=("small",),
    ),
    # Meant for an hour of two CPU cores: the adversary and its control alone, on the three pairs
    # that a verdict needs, in 300 steps of 64 images. Warm-up and the adversary's start are a
    # twentieth and a tenth of them, as at the laptop scale.
    "cifar10": GanScale(
        parent="cifar10-small",
        parents=1,
        seeds=3,
        arms=(CONTROL, GE),
        recipe="small",
        samples=500,
        extractors=("small",),
        epochs=300 * 64 / 50_000,
        parent_fields={"training.epochs": 1.0},
        fields={
            "finetune.warmup_epochs": 15 * 64 / 50_000,
            "adversarial.adversarial_start": 30 * 64 / 50_000,
        },
    ),
    "gpu": GanScale(
        parent="cifar10-gpu",
        parents=2,
        seeds=3,
        recipe="gan",
        samples=10_000,
        extractors=("small",),
        use_gpu=True,
    ),
}


@dataclass(frozen=True, kw_only=True)
class GanSweepOptions(CommonOptions):
    """Fine-tune the decoder of each parent in every arm and seed, measure, compare in pairs."""

    scale: ScaleName = "laptop"
    """smoke: seconds, learns nothing. laptop: blurred digits on 2 CPU cores. cifar10: one epoch of
    cifar10-small, 300 steps of control and default arm on 2 CPU cores. gpu: recipe cifar10-gpu."""
    run: tuple[str, ...] = ()
    """Parents that are there already, by name or folder; empty = the sweep trains the scale's."""
    parents: int = 0
    """Number of parents that the sweep trains, with seeds 0, 1, ...; 0 = the scale's."""
    arms: tuple[str, ...] = ()
    """Arms beside the control, which is always there; empty = the scale's."""
    num_workers: int | None = None
    """Ray actors; None = one per CPU, at --scale gpu one per GPU. 0 = this process, no Ray."""


def settle(options: GanSweepOptions) -> GanSweepOptions:
    """Options with the scale's values where none are given; ValueError for impossible ones."""
    require_not_negative(options, "parents", "seeds", "epochs", "samples")
    if options.num_workers is not None:
        require_not_negative(options, "num_workers")
    unknown = [arm for arm in options.arms if arm not in ARMS]
    if unknown:
        arms = ", ".join(repr(arm) for arm in ARMS)
        raise ValueError(f"--arms {unknown[0]!r} is no arm; there are {arms}")
    if options.run and options.parents:
        raise ValueError("--parents has no effect with --run, which names the parents: drop one")
    if options.run and options.data:
        raise ValueError("--data has no effect with --run: its parents name theirs; drop one")
    settled = _complete(options)
    if not options.run and not settled.data:
        raise ValueError(
            f"--scale {options.scale} trains {GAN_SCALES[options.scale].parent}, which needs "
            "--data: a folder or s3:// URI of parquet shards (jobs/prepare_data.py makes them)"
        )
    return settled


def _complete(options: GanSweepOptions) -> GanSweepOptions:
    """Options with the scale's values where none are given, and absolute places."""
    scale = GAN_SCALES[options.scale]
    data = options.data or recipe(scale.parent).data.train
    chosen = [arm for arm in ARMS if arm in (CONTROL, *(options.arms or scale.arms))]
    return replace(
        options,
        parents=len(options.run) or options.parents or scale.parents,
        seeds=options.seeds or scale.seeds,
        arms=tuple(chosen),
        epochs=options.epochs or scale.epochs,
        data=Store.open(data).uri if data and not is_builtin(data) else data,
        samples=options.samples or scale.samples,
        extractor=options.extractor or scale.extractors,
        storage=Store.open(options.storage or default_storage()).uri,
    )


def gan_folder(options: GanSweepOptions) -> Store:
    """Folder of a settled sweep's table, figure and pictures."""
    usual = _complete(GanSweepOptions(scale=options.scale))
    name = f"decoder-gan-{options.scale}{distinction(options, usual, NAMED)}"
    return Store.open(options.storage) / "sweeps" / name
