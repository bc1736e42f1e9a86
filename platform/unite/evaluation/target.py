"""Target of an evaluation: from the name of a run or a file to weights, config and data.

Everything here is looked at before a cluster or an accelerator is touched.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from unite.checkpoints.layout import (
    AUTHORS_WEIGHTS,
    CARDS_FILE,
    EXPORT_WEIGHTS,
    MARKER,
    CheckpointError,
    checkpoint_digest,
    latest,
    no_model,
    read_state,
)
from unite.config.schema import RunConfig
from unite.config.serialise import DIGEST_DIGITS
from unite.data.overlap import describe_shared
from unite.data.parts import Split, measured_split, require_domains
from unite.data.shards import ShardSet
from unite.domains.stored import Stored, stored_of
from unite.evaluation.dataset import Dataset, class_counts, data_folder
from unite.runs import (
    EVALUATIONS,
    parent_of,
    read_record,
    read_run_config,
    resolve_run,
    run_of,
)
from unite.storage import Store

PARTS = ("train", "eval")

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The weights that are measured."""

    digest: str
    """Digest of the checkpoint's content."""
    ema: bool = True
    uri: str = field(compare=False)
    """Path or URI for `unite.load`; empty = an untrained model of `config`."""
    images: int = field(default=0, compare=False)
    """Training images that it has seen; 0 = unknown."""
    home: str = field(compare=False)
    """Folder that its evaluations are kept in."""
    config: RunConfig = field(compare=False, repr=False)
    """Config of its run; for bare weights the fields that they tell, else defaults."""
    trained_here: bool = field(default=True, compare=False)
    """True if `config` is a run's, so that its training part is known."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """A checkpoint and the data that it is measured on."""

    subject: Subject
    run: Store | None
    """Folder of its run; None for exports and bare weights."""
    storage: str
    """Storage that keeps extractors and references."""
    train: Dataset
    held_out: Dataset
    label: int | None = None
    """Class of its samples, where the target is one part of a joint model."""

    @property
    def record(self) -> dict[str, Any]:
        """The run's MLflow ids, if it has any."""
        return read_record(self.run) if self.run else {}


def open_target(
    reference: str,
    storage: str,
    *,
    ema: bool,
    data: str = "",
    eval_data: str = "",
    check: Callable[[Subject], object] = lambda subject: None,
) -> Target:
    """Find the checkpoint that `reference` means, and its data.

    `data` and `eval_data` replace the run's own; weights without a run need `data`. `check` comes
    before the data are opened, which writes built-in ones that are not there. CheckpointError
    for no run or no checkpoint, ShardError for no data, ValueError when the data is not what the
    checkpoint was trained on.
    """
    subject = open_subject(reference, storage, ema=ema)
    check(subject)
    checkpoint = Store.open(subject.uri)
    run = run_of(checkpoint)
    chosen = _data_uris(subject.config, run, storage, data, eval_data, reference)
    parts = open_parts(chosen, stored_of(subject.config.domain), "the model")
    train, held_out = (Dataset.of(*parts[part]) for part in PARTS)
    _check_data(checkpoint, train)
    if shared := describe_shared(*(parts[part][0] for part in PARTS)):
        log.warning("%s", shared)
    where = parent_of(run).uri if run else Store.open(storage).uri
    return Target(subject=subject, run=run, storage=where, train=train, held_out=held_out)


def open_parts(
    uris: Mapping[str, str], stored: Stored, reader: str
) -> dict[str, tuple[ShardSet, Split]]:
    """Shards and split of the training rows and of those that are measured, by part.

    Measured is the test split where its folder has one. ShardError for a folder of another domain
    than `reader` reads, whose stored form is given.
    """
    for uri in uris.values():
        require_domains(uri, stored.folders, reader)
    splits: dict[str, Split] = {
        "train": "train",
        "eval": measured_split(uris["eval"]),
    }
    return {
        part: (ShardSet.open(uris[part], split, stored.columns), split)
        for part, split in splits.items()
    }


def open_subject(reference: str, storage: str, *, ema: bool) -> Subject:
    """Weights that `reference` means; their data need not be at hand.

    CheckpointError for no run or no checkpoint.
    """
    place = Store.open(resolve_run(reference, storage))
    return _subject(_checkpoint_in(place), Store.open(storage), ema)


def check_labels(target: Target) -> None:
    """ValueError for labels outside of the classes, in the training or the held-out set."""
    for data in (target.train, target.held_out):
        class_counts(data, target.subject.config.domain)


def _checkpoint_in(place: Store) -> Store:
    """The newest checkpoint of a run; checkpoints, exports and files are themselves."""
    itself = place.is_file() or place.exists(MARKER)
    if itself or any(place.is_file(name) for name in (EXPORT_WEIGHTS, AUTHORS_WEIGHTS)):
        return place
    newest = latest(place)
    if newest is None and read_run_config(place.uri) is None:
        raise no_model(place)
    if newest is None:
        raise CheckpointError(
            f"the run {place} has no committed checkpoint yet: "
            "let it train until the first one (checkpoint.every_images)"
        )
    return newest


def _subject(checkpoint: Store, storage: Store, ema: bool) -> Subject:
    run, config = run_of(checkpoint), read_run_config(checkpoint.uri)
    digest = _content_digest(checkpoint)
    home = storage / "imported" / digest if run is None else run
    return Subject(
        digest=digest,
        ema=ema,
        uri=checkpoint.uri,
        images=0 if run is None else read_state(checkpoint, "images")["images"],
        home=(home / EVALUATIONS / digest).uri,
        config=config or _config_of_weights(checkpoint, ema),
        trained_here=config is not None,
    )


def _content_digest(place: Store) -> str:
    """Digest of the weights, whatever their place."""
    if place.exists(MARKER):
        return checkpoint_digest(place)
    if place.is_file():
        return place.digest()[:DIGEST_DIGITS]
    total = hashlib.sha256()
    for name in place.list():
        part = name.endswith((".safetensors", ".json")) and name != CARDS_FILE
        if part and place.is_file(name):
            total.update(f"{name} {place.digest(name)}\n".encode())
    return total.hexdigest()[:DIGEST_DIGITS]


def _config_of_weights(place: Store, ema: bool) -> RunConfig:
    """Config that bare weights tell; the authors' sampler is the default of SamplingConfig."""
    from unite.checkpoints.load import load  # no scan of runs needs torch for it

    model = load(place.uri, ema=ema)
    domain: Any = model.domain
    return RunConfig(recipe="imported", domain=domain.config, model=model.config, flow=model.flow)


def _data_uris(
    config: RunConfig, run: Store | None, storage: str, data: str, eval_data: str, reference: str
) -> dict[str, str]:
    train = data or config.data.train
    if not train:
        raise ValueError(
            f"{reference} does not say what it was trained on: name the folder of its training "
            "shards with --data (and --eval-data, where the held-out ones are elsewhere)"
        )
    held_out = eval_data or (data or config.data.eval or train)
    # A run that was moved finds the digits beside itself again.
    storage = parent_of(run).uri if run else storage
    return {"train": data_folder(train, storage), "eval": data_folder(held_out, storage)}


def _check_data(checkpoint: Store, train: Dataset) -> None:
    if run_of(checkpoint) is None:
        return
    trained_on = read_state(checkpoint, "manifest_digest")["manifest_digest"]
    if trained_on != train.digest:
        raise ValueError(
            f"the checkpoint was trained on data {trained_on[:12]}, but {train.uri} holds "
            f"{train.digest[:12]}: reference statistics of it would belong to another data set. "
            "Name the folder that it was trained on with --data"
        )
