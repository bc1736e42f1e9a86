"""Lease of a run: one process at a time may write it, on disks and on object stores.

A driver that is killed leaves its workers alive for moments, in which the same command, typed
again, would train beside them; two people may type it on two machines. On a disk the lease is a
lock of the kernel: it goes with the process that holds it, however that ends, and reaches as far as
the file system does. On an object store it is an object that its holder renews by conditional
writes. One that is not renewed for LEASE_S, as the next one's own clock sees it, is taken over with
a higher generation, and its old holder, which may only have slept, finds out before it writes:
every write that counts is preceded by `Lease.check`. The generation stands in COMMITTED.

A run has two of them: of its driver ("driver"), taken before anything is written, and of rank 0
("writer"); a sweep has one of its driver. Evaluations of a checkpoint add their results to one
file, each under ".results", and preparations of a data folder theirs under ".manifest".
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from unite.checkpoints.layout import CheckpointError
from unite.objects import ConflictError, read_tagged, write_if
from unite.storage import StorageError, Store

logger = logging.getLogger(__name__)

PATIENCE_S = 60.0
"""Seconds that rank 0 waits for the last one to end."""
POLL_S = 0.2
RENEW_S = 5.0
"""Seconds between two renewals of a lease on an object store."""
LEASE_S = 30.0
"""Seconds without a renewal after which it is taken over."""
TELL_S = 2.0
"""Seconds of waiting after which that is said."""
GENERATION = re.compile(r"generation (\d+)")

Role = Literal["driver", "writer", "sweep", ".results", ".manifest"]
WAIT = "wait until it ends, or stop it there. Nothing was written. The same command goes on"
BUSY = {
    "sweep": f"is run by {{holder}}: {WAIT} with the trials that are left",
    ".results": "gets the results of {holder}, for too long: stop it, if it hangs. The same "
    "command goes on with what is measured here",
    ".manifest": "gets a split of {holder}, for too long: stop it, if it hangs. The same command "
    "goes on with the shards that are finished here",
}
"""Message to who comes second, by the role that another process has; of others: TRAINED."""
TRAINED = f"is being trained by {{holder}}: {WAIT} from its last checkpoint."


class BusyError(ValueError):
    """Another process holds the run."""


class LostLeaseError(CheckpointError):
    """Another process has taken the run over: nothing more may be written."""


class Lease:
    """A held lease. This one, of a disk, holds as long as its process."""

    def __init__(self, generation: int = 0) -> None:
        self.generation = generation
        """Number of holders so far, this one included; 0 where nobody counts."""

    def check(self) -> None:
        """LostLeaseError when it is held no more; StorageError when that cannot be known."""

    def commit(self, place: Store, value: Any) -> None:
        """Write the JSON file that makes a checkpoint valid, and that must not exist."""
        self.check()
        place.write_json("", value)

    @property
    def fresh(self) -> bool:
        """False if it may be another's by now, without asking."""
        return True


@contextmanager
def hold(
    run: Store, role: Role = "writer", *, group: str = "", patience_s: float = PATIENCE_S
) -> Iterator[Lease]:
    """Context in which this process alone has that role in a run.

    BusyError, naming the holder, when another one lives and keeps it for `patience_s`. `group` is
    the driver's mark: what was held under the same one is taken over at once, because a driver
    starts a new group of workers when the last one is gone.
    """
    keep = _locked(run, role, patience_s) if run.is_local else _leased(run, role, group, patience_s)
    with keep as lease:
        yield lease


@contextmanager
def _locked(run: Store, role: Role, patience_s: float) -> Iterator[Lease]:
    place = Path(run.path(role))
    absent = not place.parent.exists()
    file = _open_locked(place, run, patience_s)
    try:
        with _naming(place):
            lease = Lease(_signed(file))
        yield lease
    finally:
        if absent and role == "driver":
            _forget(place)
        file.close()


def _signed(file: IO[str]) -> int:
    """Generation of this process, once its name stands in the locked file."""
    file.seek(0)
    before = GENERATION.search(file.read())
    generation = int(before[1]) + 1 if before else 1
    # Past the file's buffer: on a full disk, closing the file would fail once more.
    os.ftruncate(file.fileno(), 0)
    os.write(file.fileno(), f"{_process()}\ngeneration {generation}\n".encode())
    return generation


@contextmanager
def _naming(place: Path | str) -> Iterator[None]:
    """Context in which an error of the place becomes a StorageError that names it."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write {place}: {error}. Check that the place exists, is writable and has space"
        ) from error


def _open_locked(place: Path, run: Store, patience_s: float) -> IO[str]:
    """The open file, locked; BusyError when another process keeps it."""
    while True:
        with _naming(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            file = place.open("a+")
        try:
            _wait(file, run, patience_s)
            if place.exists() and place.stat().st_ino == os.fstat(file.fileno()).st_ino:
                return file
        except BaseException:
            file.close()
            raise
        file.close()  # its last holder has removed it


def _forget(place: Path) -> None:
    """Remove the lock of a driver that has left nothing else: a failed start leaves no folder."""
    with suppress(OSError):
        if [each.name for each in place.parent.iterdir()] == [place.name]:
            place.unlink()
            place.parent.rmdir()


def _wait(file: IO[str], run: Store, patience_s: float) -> None:
    deadline = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                file.seek(0)
                raise _busy(run, file.name, file.readline().strip()) from None
            time.sleep(POLL_S)
        except OSError as error:  # some network file systems are mounted without locks
            logger.warning("%s cannot be locked against a second writer: %s", run, error)
            return


def _process() -> str:
    return f"process {os.getpid()} on {socket.gethostname()}"


def _busy(run: Store, place: str, holder: str) -> BusyError:
    message = BUSY.get(place.rpartition("/")[2], TRAINED)
    return BusyError(f"{run} {message.format(holder=holder or 'another process')}")


@contextmanager
def _leased(run: Store, role: Role, group: str, patience_s: float) -> Iterator[Lease]:
    lease = RemoteLease(f"{run.uri}/{role}", run=run, group=group)
    with _naming(lease.uri):
        lease.acquire(patience_s)
    try:
        yield lease
    finally:
        lease.release()


@dataclass
class RemoteLease(Lease):
    """A lease on an object store."""

    uri: str
    run: Store
    group: str = ""
    generation: int = 0
    lost: bool = False
    _tag: str = ""
    _beat: int = 0
    _renewed: float = 0.0
    _id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    def acquire(self, patience_s: float) -> None:
        """Take it; BusyError when its holder lives for longer than `patience_s`."""
        started = time.monotonic()
        first = seen = None
        since, told = started, False
        while True:
            found = read_tagged(self.uri)
            now = time.monotonic()
            record = _parsed(found[0]) if found else {}
            if found and found[1] != seen:
                seen, since = found[1], now
            first = first or seen
            ours = bool(self.group) and record.get("group") == self.group
            if not found or record.get("released") or ours or now - since > LEASE_S:
                if self._take(found[1] if found else None, record):
                    return
                continue
            if seen != first and now - started > patience_s:
                raise _busy(self.run, self.uri, str(record.get("process", "")))
            if now - started > TELL_S and not told:
                told = True
                logger.warning(
                    "%s was being written by %s, which may live: waiting up to %g s for a sign",
                    *(self.run, record.get("process"), LEASE_S),
                )
            time.sleep(POLL_S)

    def check(self) -> None:
        """Renew it now: that fails once another one has it."""
        with self._lock:
            self._renew()
        if self.lost:
            raise LostLeaseError(
                f"{self.run} was taken over by another process while this one did not answer for "
                f"more than {LEASE_S:g} s: it writes nothing more. The other one goes on"
            )

    def commit(self, place: Store, value: Any) -> None:
        """Write it unless another one did; LostLeaseError then.

        A try whose answer was lost has made it already: the same content is no conflict.
        """
        self.check()
        text = (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()
        try:
            write_if(place.uri, text, None)
        except ConflictError as error:
            found = read_tagged(place.uri)
            if found is None or found[0] != text:
                raise LostLeaseError(f"{place} was written by another process") from error

    @property
    def fresh(self) -> bool:
        """False if it was not renewed for LEASE_S or is lost."""
        return not self.lost and time.monotonic() - self._renewed < LEASE_S

    def release(self) -> None:
        """Let the next one have it at once; the count of generations stays."""
        self._ended.set()
        with self._lock:
            if not self.lost:
                with suppress(OSError):  # it runs out by itself
                    write_if(self.uri, self._record(released=True), self._tag)

    def _take(self, tag: str | None, record: dict[str, Any]) -> bool:
        self.generation = int(record.get("generation", 0)) + 1
        if not self._written(tag):  # another one was faster, or its holder lives
            return False
        self._renewed = time.monotonic()
        threading.Thread(target=self._keep, name=f"lease of {self.run.name}", daemon=True).start()
        return True

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_S) and not self.lost:
            with self._lock, suppress(OSError):  # a store that is away is asked again
                if not self._ended.is_set():
                    self._renew()

    def _renew(self) -> None:
        """One conditional write; OSError when the store does not answer."""
        if self.lost:
            return
        self._beat += 1
        if self._written(self._tag):
            self._renewed = time.monotonic()
        else:
            self.lost = True

    def _written(self, tag: str | None) -> bool:
        """Write the record over that of a tag; False when another process's stands there.

        An earlier try may have arrived although its answer did not: then it is ours that does.
        """
        try:
            self._tag = write_if(self.uri, self._record(), tag)
        except ConflictError:
            found = read_tagged(self.uri)
            if found is None or _parsed(found[0]).get("id") != self._id:
                return False
            self._tag = found[1]
        return True

    def _record(self, *, released: bool = False) -> bytes:
        record = {
            "id": self._id,
            "process": _process(),
            "group": self.group,
            "generation": self.generation,
            "beat": self._beat,
            "released": released,
        }
        return json.dumps(record).encode()


def _parsed(data: bytes) -> dict[str, Any]:
    try:
        record = json.loads(data)
    except ValueError:
        return {}
    return record if isinstance(record, dict) else {}
