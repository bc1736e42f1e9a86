"""Trials of an axis at a scale: full configs, each known by its digest.

A trial is what one point of a figure needs from one seed. Its identity is the digest of its config,
as the run's folder is named, so that a sweep finds what any earlier command has trained, and two
sweeps share the points that they have in common. Trials that differ in sampling alone share a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from unite.ablation.matching import matched_encoder, trained_parameters
from unite.ablation.options import SweepOptions, check, settle, sweep_folder, sweep_name
from unite.config.axes import Arm, Axis
from unite.config.recipes import recipe
from unite.config.scales import SCALES, Fields
from unite.config.schema import RunConfig, SamplingConfig
from unite.config.serialise import LATER, digest
from unite.config.serialise import replace as replace_fields
from unite.config.validate import validate
from unite.storage import Store
from unite.training.flops import training_flops


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Protocol of a trial's measurement: sampling, number of samples, extractors."""

    sampling: SamplingConfig
    num_samples: int
    extractors: tuple[str, ...]
    num_images: int = field(default=0, metadata=LATER)
    """Held-out samples that are reconstructed; 0 = all."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One point of a figure, for one seed."""

    value: str
    arm: str
    seed: int
    config: RunConfig
    """The run that is trained."""
    protocol: Protocol

    @property
    def digest(self) -> str:
        """Identity: the config, with the sampling that is measured."""
        return digest(replace(self.config, sampling=self.protocol.sampling))

    @property
    def measurement(self) -> str:
        """Identity of its numbers: another protocol is another measurement."""
        return f"{self.digest}-{digest(self.protocol)}"

    @property
    def point(self) -> tuple[str, str]:
        """Point of the figure: (arm, value)."""
        return self.arm, self.value

    @property
    def parameters(self) -> int:
        """Trained parameters."""
        return trained_parameters(self.config.domain, self.config.model)


@dataclass(frozen=True, kw_only=True)
class TrialGroup:
    """The trials that are measured on one training run; Tune trains and measures them as one."""

    config: RunConfig
    trials: tuple[Trial, ...]

    @property
    def digest(self) -> str:
        """Identity of the run."""
        return digest(self.config)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """An axis at a scale, expanded."""

    axis: Axis
    options: SweepOptions
    trials: tuple[Trial, ...]

    @property
    def name(self) -> str:
        """Name of the sweep's folder and of its MLflow run: other points, another name."""
        return sweep_name(self.axis, self.options)

    @property
    def storage(self) -> Store:
        """Storage of the runs."""
        return Store.open(self.options.storage)

    @property
    def folder(self) -> Store:
        """Folder of the sweep, for files that belong to no single run."""
        return sweep_folder(self.axis, self.options)

    @property
    def works(self) -> tuple[TrialGroup, ...]:
        """The distinct runs, all points of a seed before the next, the most expensive first.

        Then an interrupted sweep has whole seeds, and no long run starts at the end.
        """
        runs: dict[str, list[Trial]] = {}
        for trial in self.trials:
            runs.setdefault(digest(trial.config), []).append(trial)
        groups = [TrialGroup(config=each[0].config, trials=tuple(each)) for each in runs.values()]
        return tuple(sorted(groups, key=lambda group: (group.trials[0].seed, -_cost(group.config))))

    def label(self, trial: Trial) -> str:
        """A trial in words."""
        value = f"{self.axis.label.split(',')[0]} = {trial.value}"
        words = value if self.axis.is_numeric else trial.value
        return ", ".join(filter(None, [words, trial.arm, f"seed {trial.seed}"]))

    def tags(self, trial: Trial) -> dict[str, str]:
        """Tags by which MLflow finds a trial."""
        tags = {
            "axis": self.axis.name,
            "value": trial.value,
            "arm": trial.arm,
            "seed": str(trial.seed),
            "figure": self.axis.figure,
            "scale": self.options.scale,
            "equal": self.options.equal,
            "digest": trial.digest,
        }
        return {name: value for name, value in tags.items() if value}


def expand(axis: Axis, options: SweepOptions) -> Sweep:
    """All trials of a sweep; ValueError for options or configs that cannot run."""
    check(options)
    options = settle(axis, options)
    base = _base(options)
    trials = tuple(
        _trial(axis, options, base, arm, value, seed)
        for seed in range(options.seeds)
        for arm in axis.arms
        for value in _values(axis, options, arm)
    )
    if not trials:
        scales = ", ".join(scale for scale in SCALES if axis.chosen(scale))
        raise ValueError(
            f"axis {axis.name} has no values at --scale {options.scale}; it has some at {scales}"
        )
    return Sweep(axis=axis, options=options, trials=trials)


def _base(options: SweepOptions) -> RunConfig:
    """The config at the recipe's own setting."""
    scale = SCALES[options.scale]
    changes: dict[str, object] = {
        **scale.fields,
        "training.epochs": options.epochs,
        "storage": options.storage,
        "data.train": options.data,
        "cluster.wait_s": options.wait_s,
        "tracking": options.tracking,
    }
    if options.workers:
        changes["cluster.num_workers"] = options.workers
    return replace_fields(recipe(scale.recipe), changes)


def _values(axis: Axis, options: SweepOptions, arm: Arm) -> Iterator[str]:
    chosen = axis.chosen(options.scale, options.values)
    wanted = arm.values.get(options.scale, chosen) if not options.values else chosen
    return (value for value in chosen if value in wanted)


def _trial(
    axis: Axis, options: SweepOptions, base: RunConfig, arm: Arm, value: str, seed: int
) -> Trial:
    point = replace_fields(base, {**_point_fields(axis, base, arm, value), "training.seed": seed})
    sampling = point.sampling
    if not axis.trains:
        point = replace(point, sampling=base.sampling)
    if options.equal == "compute":
        share = _flops(base) / _flops(point)
        point = replace_fields(point, {"training.epochs": base.training.epochs * share})
    return Trial(
        value=value,
        arm=arm.name,
        seed=seed,
        config=validate(point),
        protocol=Protocol(
            sampling=sampling,
            num_samples=options.samples,
            extractors=options.extractor,
            num_images=SCALES[options.scale].num_images,
        ),
    )


def _point_fields(axis: Axis, base: RunConfig, arm: Arm, value: str) -> Fields:
    fields = {**arm.fields, **axis.fields[value]}
    if not arm.as_large_as:
        return fields
    other = next(each for each in axis.arms if each.name == arm.as_large_as)
    model = replace_fields(base, fields).model
    larger = replace_fields(base, {**fields, **other.fields}).model
    target = trained_parameters(base.domain, larger)
    return {**fields, **matched_encoder(base.domain, model, target)}


def _flops(config: RunConfig) -> float:
    return training_flops(config).total


def _cost(config: RunConfig) -> float:
    return _flops(config) * config.training.epochs
