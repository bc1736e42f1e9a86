"""Damaged checkpoints: found before a run continues, set aside, and the one before taken.

A disk that was full, a copy that was cut or a power failure leave files that differ from their
marker, or an empty marker. Nothing of them is deleted: the folder gets another name, which counts
as no checkpoint.
"""

from __future__ import annotations

import json
import logging

from unite.checkpoints.layout import (
    MARKER,
    STATE_FILE,
    CheckpointError,
    committed,
    folder_of,
    read_marker,
    read_state,
)
from unite.checkpoints.metadata import LARGEST_HEADER
from unite.storage import StorageError, Store

logger = logging.getLogger(__name__)

DAMAGED = ".damaged"
"""Suffix of a folder that was set aside."""


def latest_whole(run: Store, *, thorough: bool) -> Store | None:
    """The newest committed checkpoint that is whole; damaged newer ones are set aside, loudly.

    To be called by the only writer of a run. `thorough` compares the digest of every byte; else
    sizes alone are looked at, which needs no more than a moment. StorageError when the place does
    not answer: that is no damage.
    """
    for images in reversed(committed(run)):
        folder = folder_of(run, images)
        problem = find_damage(folder, thorough=thorough)
        if not problem:
            return folder
        aside = set_aside(folder)
        logger.error(
            "the checkpoint at %d images is damaged: %s. It is kept as %s, and training goes on "
            "from the one before it",
            images,
            problem,
            aside,
        )
    return None


def find_damage(folder: Store, *, thorough: bool) -> str:
    """Damage of a committed checkpoint in words; empty when there is none."""
    try:
        digests = read_marker(folder)
        read_state(folder, "images")
    except CheckpointError as error:
        return str(error)
    if STATE_FILE not in digests:
        return f"its {MARKER} names no {STATE_FILE}"
    for name, digest in digests.items():
        if not folder.is_file(name):
            return f"{name} is missing"
        if name.endswith(".safetensors") and folder.size(name) != _stated_size(folder, name):
            return f"{name} is cut short"
        if (thorough or name == STATE_FILE) and folder.digest(name) != digest:
            return f"{name} does not match the digest in {MARKER}"
    return ""


def _stated_size(folder: Store, name: str) -> int:
    """Bytes that a safetensors file has by its header; 0 when that is unreadable."""
    with folder.filesystem.open_input_file(folder.path(name)) as file:
        length = int.from_bytes(file.read(8), "little")
        header = file.read(length) if length <= LARGEST_HEADER else b""
    try:
        entries = json.loads(header)
        ends = [entry["data_offsets"][1] for key, entry in entries.items() if key[:2] != "__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return 0
    return 8 + length + max(ends, default=0)


def set_aside(folder: Store) -> Store:
    """Give a damaged checkpoint's folder a name under which it counts for nothing; returns it."""
    aside = Store(f"{folder.uri}{DAMAGED}")
    aside.delete()
    try:
        folder.move(aside)
    except StorageError:
        folder.delete(MARKER)  # a place that cannot rename: at least it is no checkpoint any more
        raise
    return aside
