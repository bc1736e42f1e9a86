"""Options of `jobs/finetune_decoder.py`, and the config that they make of a parent's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

from unite.config.finetune import (
    AdversarialConfig,
    DiscriminatorConfig,
    FinetuneConfig,
    FinetuneRunConfig,
    finetune_recipe,
)
from unite.config.finetune_checks import require_finetune_effect, validate_finetune
from unite.config.flags import parse
from unite.config.schema import (
    CheckpointConfig,
    ClusterConfig,
    EvaluationConfig,
    LossConfig,
    ReconstructionNoiseConfig,
    TrackingConfig,
)
from unite.runs import LATEST, default_storage, resolve_run
from unite.storage import Store
from unite.training.finetune import Parent, find_parent, named, storage_of

DEFAULT_RECIPE = "gan"


@dataclass(frozen=True, kw_only=True)
class FinetuneArguments:
    """Fine-tune the decoder of a run; what is not given is the recipe's or the parent's."""

    run: str = LATEST
    """The parent: `latest`, a run's name, MLflow id or folder, a checkpoint, or an export."""
    data: str = ""
    """Folder of training shards; empty = the parent's. An export needs it."""
    storage: str = ""
    """Folder or s3:// URI of the runs; empty = UNITE_STORAGE, else ./runs."""
    name: str = ""
    """Folder of the new run; empty = the parent's name, gan or control, and a digest."""
    finetune: FinetuneConfig = field(default_factory=FinetuneConfig)
    adversarial: AdversarialConfig = field(default_factory=AdversarialConfig)
    discriminator: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    reconstruction_noise: ReconstructionNoiseConfig = field(
        default_factory=ReconstructionNoiseConfig
    )
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    tracking: TrackingConfig = field(default_factory=TrackingConfig)
    resume: str = "auto"
    """auto: continue this run if it exists. never: start a new one. Or a run folder."""
    dry_run: bool = False
    """Check everything, print the plan, start nothing."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A fine-tuning as it was asked for."""

    parent: Parent
    config: FinetuneRunConfig
    arguments: FinetuneArguments


def read_request(words: Sequence[str], description: str | None) -> Request:
    """The request of a command line: [recipe] [flags]; ValueError says what cannot be done.

    Defaults of the flags are the recipe's and the parent's own settings.
    """
    has_recipe = bool(words) and not words[0].startswith("-")
    recipe, rest = words[0] if has_recipe else DEFAULT_RECIPE, words[has_recipe:]
    plain = finetune_recipe(recipe, FinetuneRunConfig())  # an unknown recipe is told first
    first = parse(FinetuneArguments, default=_defaults(plain), args=rest, description=description)
    storage = Store.open(first.storage or default_storage()).uri
    place = resolve_run(first.run, storage)
    parent = find_parent(place, storage=storage, data=first.data)
    base = finetune_recipe(recipe, parent.config)
    arguments = parse(
        FinetuneArguments, default=_defaults(base), args=rest, description=description
    )
    config = build_config(parent, base, arguments)
    require_finetune_effect(config, base)
    return Request(parent=parent, config=validate_finetune(config), arguments=arguments)


def build_config(
    parent: Parent, base: FinetuneRunConfig, arguments: FinetuneArguments
) -> FinetuneRunConfig:
    """The config of the fine-tuned run, with its name."""
    changed = {name: getattr(arguments, name) for name in _shared()}
    changed |= {"name": arguments.name, "parent": parent.identity, "storage": storage_of(parent)}
    return named(replace(base, **changed))


def _defaults(config: FinetuneRunConfig) -> FinetuneArguments:
    return FinetuneArguments(**{name: getattr(config, name) for name in _shared()})


def _shared() -> list[str]:
    """Groups of settings that the command and the config have in common."""
    groups = {item.name for item in fields(FinetuneRunConfig)} - {"name", "storage", "data"}
    return [item.name for item in fields(FinetuneArguments) if item.name in groups]
