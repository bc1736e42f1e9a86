"""Checkpoints: written to a numbered folder, valid once COMMITTED exists, never half-read.

Layout: <run>/checkpoints/<images seen>/PART.safetensors..., state.json, COMMITTED. A part is any
named set of tensors: a training gives what its next step needs (model, ema, optimizer, and others
where it has more players) and gets the same back. COMMITTED holds the SHA-256 of every file and is
written last; folders without it are ignored and overwritten. Everything is data: safetensors and
JSON, no pickles.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from torch import Tensor

from unite.checkpoints.layout import (
    MARKER,
    STATE_FIELDS,
    STATE_FILE,
    CheckpointError,
    checkpoint_digest,
    committed,
    folder_of,
    latest,
    read_marker,
    read_state,
)
from unite.checkpoints.lease import Lease, LostLeaseError
from unite.checkpoints.metadata import config_metadata
from unite.checkpoints.tensors import safetensors_chunks
from unite.config.schema import CheckpointConfig
from unite.content import stand_in
from unite.network import persist
from unite.storage import StorageError, Store

logger = logging.getLogger(__name__)

__all__ = [
    "MARKER",
    "STATE_FIELDS",
    "STATE_FILE",
    "Checkpoint",
    "CheckpointError",
    "CheckpointWriter",
    "checkpoint_digest",
    "committed",
    "folder_of",
    "latest",
    "part_names",
    "read_checkpoint",
    "read_marker",
    "read_state",
]
SUFFIX = ".safetensors"
PART_NAME = re.compile("[a-z0-9_]+")

Parts = dict[str, dict[str, Tensor]]
"""Tensors by the name of a part, a file's stem, and by their own."""
Piece = bytes | memoryview


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """One committed checkpoint: tensors by part and name, and the state (JSON)."""

    parts: Parts
    state: dict[str, Any]

    @property
    def images(self) -> int:
        """Images seen when it was taken."""
        return int(self.state["images"])


def read_checkpoint(folder: Store, parts: Sequence[str] | None = None) -> Checkpoint:
    """Read and verify a committed checkpoint; CheckpointError names a missing or altered file.

    `parts` are the ones that are wanted; None = all that were saved.
    """
    digests = read_marker(folder)
    parts = part_names(digests) if parts is None else parts
    if absent := [part for part in parts if _file(part) not in digests]:
        raise CheckpointError(
            f"{folder} holds no {', '.join(absent)}: it has {', '.join(part_names(digests))}"
        )
    files = {name: folder.read(name) for name in (STATE_FILE, *(_file(part) for part in parts))}
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != digests.get(name):
            why = stand_in(data) or (
                f"does not match the digest in {MARKER}: the file was changed or cut short. Use "
                "another checkpoint of this run (unite inspect shows them)."
            )
            raise CheckpointError(f"{folder}/{name} {why}")
    tensors = {part: load_tensors(files[_file(part)]) for part in parts}
    return Checkpoint(parts=tensors, state=json.loads(files[STATE_FILE]))


@dataclass(kw_only=True)
class CheckpointWriter:
    """Saves snapshots of a run, in the background when asked to, at most one in flight.

    An object store that is away is asked again for `config.patience_s`. After
    `config.max_failed_saves` in a row training pauses as long, until the last one is written: what
    was trained beyond would be lost with the process. CheckpointError ends the run then.
    """

    run: Store
    config: CheckpointConfig
    lease: Lease = field(default_factory=Lease)
    """Right to write the run."""
    pending: threading.Thread | None = None
    error: Exception | None = None
    lag_seconds: float = 0.0
    committed_images: int = 0
    """Images seen at the last commit, or at the checkpoint that the run continues from."""
    failed: int = 0
    """Saves in a row that failed."""
    saved_at: float = field(default_factory=time.monotonic)
    """Monotonic time at which the last save began, or the writer was made."""
    passing: set[int] = field(default_factory=set)  # images of checkpoints kept until the next
    _last: tuple[Parts, dict[str, Any]] | None = None
    """Snapshot of the save that failed last."""
    _buffers: dict[tuple[str, str], Tensor] = field(default_factory=dict)
    _copied: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self._copied.set()

    def save(self, parts: Parts, state: dict[str, Any], *, kept: bool = True) -> None:
        """Write the tensors, for good or until the next; returns at once when asynchronous.

        An asynchronous save copies the tensors beside what comes next: call `settle` before
        anything changes them. A failed background save leaves earlier checkpoints intact, is
        logged, and is raised by `close` when no later save succeeded.
        """
        for part in parts:
            if not PART_NAME.fullmatch(part):
                raise ValueError(f"a checkpoint's part {part!r} may only hold a-z, 0-9 and _")
        self.wait()
        self.saved_at = time.monotonic()
        (self.passing.discard if kept else self.passing.add)(state["images"])
        if not self.config.asynchronous:
            on_host = {
                part: {name: tensor.detach().cpu() for name, tensor in tensors.items()}
                for part, tensors in parts.items()
            }
            self._write_logged(lambda: on_host, state)
            self._require_insured()
            return
        self._copied.clear()
        copy = self._copy_of(parts)
        self.pending = threading.Thread(
            target=self._write_logged, args=(copy, state), name="checkpoint"
        )
        self.pending.start()

    def settle(self) -> None:
        """Block until the tensors given to `save` may change again, and while saves fail."""
        self._copied.wait()
        self._require_insured()

    def wait(self) -> None:
        """Block until no save is in flight."""
        if self.pending is not None:
            self.pending.join()
            self.pending = None

    def close(self) -> None:
        """Finish the save in flight; CheckpointError when the last one failed."""
        self.wait()
        if self.error is not None:
            raise CheckpointError(
                f"the last checkpoint could not be written: {self.error}. Earlier ones under "
                f"{self.run}/checkpoints are intact; free the place and run the same command."
            ) from self.error

    def _require_insured(self) -> None:
        """Pause after too many failed saves; raise where no other try can help."""
        if isinstance(self.error, LostLeaseError):
            raise self.error
        if self.failed < self.config.max_failed_saves or self._last is None:
            return
        parts, state = self._last
        try:
            persist(
                lambda: self._write(parts, state),
                self.config.patience_s,
                passing=_may_pass,
                doing=f"training pauses after {self.failed} failed saves: the checkpoint at "
                f"{state['images']} images",
            )
        except OSError as error:
            self.error = error
            self._last = None
            raise CheckpointError(
                f"no checkpoint could be written for {self.config.patience_s:g} s "
                f"(checkpoint.patience_s): {error}. Training ended, as it would only make what is "
                f"lost larger; earlier checkpoints under {self.run}/checkpoints are intact. Free "
                "the place and run the same command"
            ) from error
        self._succeeded()

    def _succeeded(self) -> None:
        self.error, self._last, self.failed = None, None, 0

    def _copy_of(self, parts: Parts) -> Callable[[], Parts]:
        """A function that copies the tensors, as the work queued so far leaves them, to buffers
        on the host; for another thread. On a GPU it copies on a stream of its own.
        """
        copies = {
            part: {name: self._buffer(part, name, tensor) for name, tensor in tensors.items()}
            for part, tensors in parts.items()
        }
        sources = [tensor.detach() for tensors in parts.values() for tensor in tensors.values()]
        targets = [tensor for tensors in copies.values() for tensor in tensors.values()]
        gpu = next((source.device for source in sources if source.is_cuda), None)
        stream = None if gpu is None else torch.cuda.Stream(gpu)
        if stream is not None:
            stream.wait_stream(torch.cuda.current_stream(gpu))

        def copy() -> Parts:
            with torch.cuda.stream(stream):  # None changes nothing
                torch._foreach_copy_(targets, sources, non_blocking=stream is not None)
            if stream is not None:
                stream.synchronize()
            return copies

        return copy

    def _buffer(self, part: str, name: str, tensor: Tensor) -> Tensor:
        buffer = self._buffers.get((part, name))
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[part, name] = buffer
        return buffer

    def _write_logged(self, copy: Callable[[], Parts], state: dict[str, Any]) -> None:
        try:
            try:
                copies = copy()
            finally:
                self._copied.set()
            self._last = copies, state
            self._write_patiently(copies, state)
            self._succeeded()
        except Exception as error:  # whatever it is, `close` must not take the save for done
            self.error = error
            self.failed += 1
            logger.error("checkpoint at %d images not written: %s", state["images"], error)

    def _write_patiently(self, parts: Parts, state: dict[str, Any]) -> None:
        """Write; an object store may be away for a while, a full disk is told of at once."""
        persist(
            lambda: self._write(parts, state),
            0.0 if self.run.is_local else self.config.patience_s,
            passing=_may_pass,
            doing=f"the checkpoint at {state['images']} images",
        )

    def _write(self, parts: Parts, state: dict[str, Any]) -> None:
        started = time.monotonic()
        folder = folder_of(self.run, state["images"])
        self.lease.check()
        folder.delete(MARKER)
        text = (json.dumps(state, indent=1, sort_keys=True) + "\n").encode()
        try:
            digests = {STATE_FILE: self._write_file(folder, STATE_FILE, iter([text]))}
            for part, tensors in parts.items():
                metadata = config_metadata(state.get("config", {}))
                pieces = safetensors_chunks(tensors, metadata)
                digests[_file(part)] = self._write_file(folder, _file(part), pieces)
            marker = {"sha256": digests, "generation": self.lease.generation}
            self.lease.commit(folder / MARKER, marker)
        except OSError:
            _discard(folder)
            raise
        self.lag_seconds = time.monotonic() - started
        self.committed_images = state["images"]
        try:
            self._prune()
        except StorageError as error:
            logger.warning("old checkpoints were not deleted: %s", error)

    def _write_file(self, folder: Store, name: str, pieces: Iterator[Piece]) -> str:
        """Write and return the SHA-256."""
        digest = hashlib.sha256()
        folder.write(name, self._guarded(_hashed(pieces, digest)))
        return digest.hexdigest()

    def _guarded(self, pieces: Iterator[Piece]) -> Iterator[Piece]:
        """The pieces, and at their end, before the file appears, a look if it still may."""
        yield from pieces
        self.lease.check()

    def _prune(self) -> None:
        """Delete checkpoints that are neither among the last nor the best, or left unfinished."""
        found = committed(self.run)
        lasting = [images for images in found if images not in self.passing]
        keep = {found[-1], *lasting[-self.config.keep_last :], *self._best(found)}
        for name in self.run.list("checkpoints"):
            if name.isdigit() and int(name) not in keep:
                folder = folder_of(self.run, int(name))
                folder.delete(MARKER)
                folder.delete()

    def _best(self, found: list[int]) -> list[int]:
        """Checkpoints with the highest scores; one without a score was not evaluated."""
        scores = {}
        for images in found if self.config.keep_best else ():
            score = folder_of(self.run, images).read_json(STATE_FILE).get("score")
            if score is not None:
                scores[images] = score
        return sorted(scores, key=lambda images: scores[images])[-self.config.keep_best :]


def _may_pass(error: Exception) -> bool:
    """True for an error of the place, which may have room or be back in a while."""
    return isinstance(error, OSError)


def _hashed(pieces: Iterator[Piece], digest: hashlib._Hash) -> Iterator[Piece]:
    for piece in pieces:
        digest.update(piece)
        yield piece


def _discard(folder: Store) -> None:
    try:
        folder.delete()
    except OSError as error:
        logger.warning("could not remove the unfinished checkpoint %s: %s", folder, error)


def _file(part: str) -> str:
    return f"{part}{SUFFIX}"


def part_names(digests: Mapping[str, str]) -> list[str]:
    """Names of the parts of a checkpoint, from its marker."""
    return [name.removesuffix(SUFFIX) for name in digests if name.endswith(SUFFIX)]
