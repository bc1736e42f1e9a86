"""Start of a decoder's fine-tuning: which checkpoint it continues, and the run that it becomes.

The result is a run of its own, `<parent>-gan-<digest>` beside its parent (`<parent>-control-...`
without an adversary), whose checkpoints are whole models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from unite.checkpoints.layout import (
    AUTHORS_WEIGHTS,
    EXPORT_WEIGHTS,
    MARKER,
    CheckpointError,
    checkpoint_digest,
    latest,
    no_model,
    read_state,
)
from unite.config.finetune import FinetuneRunConfig, ParentConfig
from unite.config.schema import RunConfig
from unite.config.serialise import digest
from unite.runs import parent_of, read_run_config, run_of
from unite.storage import Store


@dataclass(frozen=True, kw_only=True)
class Parent:
    """The model that a fine-tuning continues."""

    place: Store
    """Its checkpoint, or an export's folder."""
    config: RunConfig
    """Its run's config, with the storage and data that the fine-tuning uses."""
    identity: ParentConfig
    manifest_digest: str
    """Digest of the data that it was trained on; empty for an export, which does not say."""


def find_parent(path: str, *, storage: str, data: str = "") -> Parent:
    """The parent at `path`, a run, checkpoint or export; ValueError or CheckpointError otherwise.

    `data` is the folder of training shards: needed for an export, for a run its own otherwise.
    """
    place = Store.open(path)
    config = None if place.is_file() else read_run_config(path)
    if isinstance(config, FinetuneRunConfig):
        raise ValueError(
            f"{place} is itself fine-tuned, from {config.parent.run}: fine-tune that one, so that "
            "results compare the same number of steps"
        )
    checkpoint = _checkpoint(place)
    if checkpoint is not None and config is not None:
        config = replace(config, data=replace(config.data, train=data)) if data else config
        return _of_checkpoint(checkpoint, config)
    if place.exists("checkpoints"):
        raise CheckpointError(
            f"the run {place} has no committed checkpoint yet: there is no decoder to fine-tune"
        )
    weights = (EXPORT_WEIGHTS, AUTHORS_WEIGHTS)
    if config is None and not (place.is_file() or any(map(place.exists, weights))):
        raise no_model(place)
    if config is None:
        raise ValueError(
            f"--run {place} holds bare weights, which do not say how the model was trained: "
            "fine-tune its run, or an export of it (jobs/export.py) with --data"
        )
    if not data:
        raise ValueError(
            f"--run {place} is an export, which does not say where its data is: give --data, the "
            "folder of the training shards that it was trained on"
        )
    return _of_export(
        place, replace(config, storage=storage, data=replace(config.data, train=data))
    )


def _checkpoint(place: Store) -> Store | None:
    if place.is_file():
        return None
    return place if place.exists(MARKER) else latest(place)


def _of_checkpoint(checkpoint: Store, config: RunConfig) -> Parent:
    state = read_state(checkpoint, "images", "manifest_digest")
    run = run_of(checkpoint) or checkpoint
    return Parent(
        place=checkpoint,
        config=config,
        identity=ParentConfig(
            run=run.name, digest=checkpoint_digest(checkpoint), images=state["images"]
        ),
        manifest_digest=state["manifest_digest"],
    )


def _of_export(place: Store, config: RunConfig) -> Parent:
    weights = next(name for name in place.list() if name.endswith(".safetensors"))
    identity = ParentConfig(run=place.name, digest=place.digest(weights)[:16])
    return Parent(place=place, config=config, identity=identity, manifest_digest="")


def named(config: FinetuneRunConfig) -> FinetuneRunConfig:
    """The config with the name of its run, unless it has one; another setting, another name."""
    if config.name:
        return config
    kind = "gan" if config.adversarial.weight else "control"
    return replace(config, name=f"{config.parent.run}-{kind}-{digest(config)}")


def require_same_data(parent: Parent, shards: Any) -> None:
    """ValueError unless a shard set is what the parent was trained on; an export does not say."""
    if parent.manifest_digest and shards.digest != parent.manifest_digest:
        raise ValueError(
            f"{parent.identity.run} was trained on data {parent.manifest_digest[:12]}, but "
            f"{shards.uri} holds {shards.digest[:12]}: the decoder would be fine-tuned on other "
            "images. Give --data, the folder of the same shards"
        )


def lineage(config: RunConfig) -> dict[str, Any]:
    """Entries of run.json that name the parent; empty for a run without one."""
    if not isinstance(config, FinetuneRunConfig):
        return {}
    identity = config.parent
    return {
        "parent_run": identity.run,
        "parent_checkpoint": identity.digest,
        "parent_images": identity.images,
    }


def storage_of(parent: Parent) -> str:
    """Storage in which the fine-tuned run belongs: its parent's."""
    run = run_of(parent.place)
    return parent_of(run).uri if run is not None else parent.config.storage
