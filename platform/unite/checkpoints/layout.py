"""Places of checkpoints and names of their files, without tensors: it imports in a moment."""

from __future__ import annotations

from typing import Any

from unite.config.serialise import json_digest
from unite.storage import Store

MARKER = "COMMITTED"
STATE_FILE = "state.json"
EXPORT_WEIGHTS = "model.safetensors"
EXPORT_CONFIG = "config.json"
AUTHORS_WEIGHTS = "state_dict.safetensors"
CARDS_FILE = "cards.json"
"""File of metric cards beside an exported model, which loads without it."""
STATE_FIELDS: dict[str, type] = {
    "images": int,
    "step": int,
    "config": dict,
    "metrics": dict,
    "manifest_digest": str,
}
"""Fields of state.json that others than the trainer read."""


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or its files differ from its marker."""


def read_marker(folder: Store) -> dict[str, str]:
    """File name -> SHA-256 of a committed checkpoint; CheckpointError when it has no marker."""
    if not folder.exists(MARKER):
        raise CheckpointError(f"{folder} is not a committed checkpoint: it has no {MARKER} file")
    return folder.read_json(MARKER, {"sha256": dict}, CheckpointError)["sha256"]


def no_model(folder: Store) -> CheckpointError:
    """The error for a folder without a model: what belongs there, and what is there."""
    return CheckpointError(
        f"{folder} holds no model: expected a run, a checkpoint ({STATE_FILE}, {MARKER}) or an "
        f"export ({EXPORT_WEIGHTS}, {EXPORT_CONFIG}); it has: "
        f"{', '.join(folder.list()) or 'no files'}"
    )


def read_state(folder: Store, *names: str) -> dict[str, Any]:
    """state.json of a checkpoint; CheckpointError names the field of `names` that is not right."""
    fields = {name: STATE_FIELDS[name] for name in names}
    return folder.read_json(STATE_FILE, fields, CheckpointError)


def checkpoint_digest(folder: Store) -> str:
    """16 hex digits that identify a checkpoint by its content."""
    return json_digest(read_marker(folder))


def committed(run: Store) -> list[int]:
    """Images seen of every committed checkpoint of a run, ascending."""
    found = []
    for name in run.list("checkpoints"):
        if name.isdigit() and run.exists(f"checkpoints/{name}/{MARKER}"):
            found.append(int(name))
    return sorted(found)


def folder_of(run: Store, images: int) -> Store:
    """The folder of the checkpoint taken after `images` images."""
    return run / "checkpoints" / f"{images:012d}"


def latest(run: Store) -> Store | None:
    """The newest committed checkpoint of a run, if any."""
    found = committed(run)
    return folder_of(run, found[-1]) if found else None
