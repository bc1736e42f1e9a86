"""A run to train: new, to be continued, or finished.

The name defaults to recipe and config digest, so the same command finds the same run again.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from dataclasses import replace as replace_dataclass
from typing import Any

from unite.checkpoints.layout import MARKER, CheckpointError, committed, folder_of
from unite.checkpoints.metadata import parse_config
from unite.config.schema import DataConfig, RunConfig
from unite.config.serialise import PLACE_FIELDS, diff, digest, to_dict
from unite.config.workers import most_workers
from unite.data.parts import absolute, each_part
from unite.runs import (
    CONFIG_FILE,
    STOP_FILE,
    at_home,
    default_storage,
    is_builtin,
    parent_of,
    read_record,
    shares_its_record,
)
from unite.storage import Store


@dataclass(frozen=True, kw_only=True)
class Run:
    """A resolved run: its config with name and storage filled in, and its folder."""

    config: RunConfig
    folder: Store
    resume_from: Store | None = None
    start_from: Store | None = None
    """Checkpoint or export with the first weights of a fine-tuning."""

    @property
    def record(self) -> dict[str, Any]:
        """run.json, or an empty dict for a new run."""
        return read_record(self.folder)

    @property
    def mlflow_run_id(self) -> str | None:
        """The MLflow run that training goes on with; None for a new run, and for a copy of one."""
        return None if shares_its_record(self.folder) else self.record.get("mlflow_run_id")


def open_run(config: RunConfig, *, resume: str = "auto", allow_changes: bool = False) -> Run:
    """Find or name the run of a config and check that it may continue.

    `resume`: "auto" (continue this config's run when it exists), "never" (a new run beside it),
    or a run's name, or a run or checkpoint folder. A checkpoint that is not its run's newest begins
    a branch, a run of its own beside it, for each config another. ValueError names the changed
    fields when a run would continue under another config and `allow_changes` is not set.
    """
    storage = Store.open(config.storage or default_storage())
    weights = config.weights and absolute(config.weights)  # workers have another current folder
    data = _absolute(config.data)
    config = replace_dataclass(config, storage=storage.uri, data=data, weights=weights)
    if resume not in ("auto", "never"):
        named = storage / resume
        place = named if "/" not in resume and named.exists(CONFIG_FILE) else Store.open(resume)
        return _continue_at(config, place, allow_changes)
    name = config.name or f"{config.recipe}-{digest(config)}"
    if resume == "never":
        name = _unused(storage, name)
    return _at(config, storage / name, allow_changes)


def run_flags(run: Run) -> list[str]:
    """The flags by which other commands, typed in the same folder, find the run."""
    usual = Store.open(default_storage()).uri
    storage = [] if run.config.storage == usual else ["--storage", run.config.storage]
    return ["--run", run.folder.name, *storage]


def _absolute(data: DataConfig) -> DataConfig:
    places = {"train": data.train, "eval": data.eval}
    named = {
        n: each_part(absolute, uri) for n, uri in places.items() if uri and not is_builtin(uri)
    }
    return replace_dataclass(data, **named)


def _continue_at(config: RunConfig, place: Store, allow_changes: bool) -> Run:
    checkpoint = place if place.exists(MARKER) else None
    folder = Store(place.uri.rsplit("/checkpoints/", 1)[0]) if checkpoint else place
    if not folder.exists(CONFIG_FILE):
        raise ValueError(
            f"--resume {place}: neither a run folder (no {CONFIG_FILE}) nor a committed "
            f"checkpoint (no {MARKER}); use auto, never, a run's name or such a folder"
        )
    run = _at(config, folder, allow_changes)
    if checkpoint is None or run.resume_from is None or checkpoint.name == run.resume_from.name:
        return run
    return _branch(config, folder, checkpoint)


def _branch(config: RunConfig, parent: Store, checkpoint: Store) -> Run:
    """The branch that this config began at a checkpoint of `parent`, or a new one beside others.

    Each config has a branch of its own, so that none goes on where another one ended.
    """
    for number in itertools.count(1):
        end = f"-{number}" if number > 1 else ""
        beside = Store(f"{parent.uri}-from-{int(checkpoint.name)}{end}")
        branch = _at(config, beside, True, parent=parent)
        if not beside.exists(CONFIG_FILE) or not changed_fields(branch.config, beside):
            return replace_dataclass(branch, resume_from=branch.resume_from or checkpoint)
    raise AssertionError("unreachable")


def _at(config: RunConfig, folder: Store, allow_changes: bool, parent: Store | None = None) -> Run:
    config = replace_dataclass(config, name=folder.name, storage=parent_of(folder).uri)
    config = _with_lanes(config, folder if folder.exists(CONFIG_FILE) else parent)
    if folder.exists(CONFIG_FILE):
        _check_unchanged(config, folder, allow_changes)
    found = committed(folder)
    resume_from = folder_of(folder, found[-1]) if found else None
    return Run(config=config, folder=folder, resume_from=resume_from)


def _with_lanes(config: RunConfig, begun: Store | None) -> RunConfig:
    """The config with its run's own lanes, at least those asked for.

    A new run has a multiple of its workers, so that each reads its own rows alone; the run in the
    folder `begun` keeps what it began with, because the order of its rows follows from it.
    """
    asked, workers = config.data.lanes, most_workers(config.cluster)
    lanes = -(-asked // workers) * workers
    if begun is not None and begun.exists(CONFIG_FILE):
        stored = parse_config(begun.read_json(CONFIG_FILE, {}, CheckpointError), begun.uri)
        lanes = max(asked, stored.data.lanes)
    return replace_dataclass(config, data=replace_dataclass(config.data, lanes=lanes))


def changed_fields(config: RunConfig, folder: Store) -> list[tuple[str, Any, Any]]:
    """(name, old, new) of fields that differ from those that a run was started with."""
    stored = folder.read_json(CONFIG_FILE, {}, CheckpointError)
    before = at_home(parse_config(stored, f"{folder}/{CONFIG_FILE}"), folder)
    return [row for row in diff(before, config) if row[0].split(".")[0] not in PLACE_FIELDS]


def _check_unchanged(config: RunConfig, folder: Store, allow_changes: bool) -> None:
    changed = changed_fields(config, folder)
    if not changed or allow_changes:
        return
    lines = "\n".join(f"  {name}: {old!r} -> {new!r}" for name, old, new in changed)
    raise ValueError(
        f"the run {folder} was started with another config:\n{lines}\nUse the old values, "
        "--resume never for a new run, or --allow-changes to continue with the new ones."
    )


def _unused(storage: Store, name: str) -> str:
    candidate, number = name, 1
    while storage.exists(f"{candidate}/{CONFIG_FILE}"):
        number += 1
        candidate = f"{name}-{number}"
    return candidate


def begin(run: Run) -> None:
    """Check that the place is writable, record the config and clear an old stop request."""
    run.folder.check_writable()
    run.folder.write_json(CONFIG_FILE, to_dict(run.config))
    run.folder.delete(STOP_FILE)


def request_stop(folder: Store, owner: str = "") -> None:
    """Ask a run to save and end; its rank 0 looks for the file every second.

    `owner` is the mark of the driver that is meant (`Job.token`); empty = whoever trains it.
    """
    folder.write(STOP_FILE, owner.encode())


def stop_asked(folder: Store, owner: str) -> bool:
    """True if the run of the driver with this mark is to end."""
    return folder.exists(STOP_FILE) and folder.read(STOP_FILE) in (b"", owner.encode())
