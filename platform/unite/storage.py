"""Storage: every path is a local folder or an s3:// URI, and this module is the only reader.

`Store(uri)` wraps one root. Names below it are relative, with forward slashes. Writes are atomic:
a local file appears by rename, an S3 object by its upload's completion. Credentials and endpoints
come from the environment (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...), never from a config.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pyarrow.fs as pafs

from unite.content import HEAD_BYTES, stand_in
from unite.network import within
from unite.objects import PREFIX, endpoint, reader_of, upload

T = TypeVar("T")

CHUNK_BYTES = 8 * 2**20
DEADLINE_S = 20.0
"""Seconds that an object store may take to say what is there."""
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""Name of a local file that `Store.write` has not finished."""
_WORDS = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
}
"""Type -> its name in error messages."""


class StorageError(OSError):
    """A path cannot be read or written; the message names it and the fix."""


def database_uri(path: str | os.PathLike[str]) -> str:
    """The URI of a sqlite file; ValueError names a character that MLflow would misread in it.

    `#`, blanks, `;`, `+`, `@`, quotes and letters of any script are right.
    """
    text = os.fspath(path)
    if wrong := [mark for mark in "%?" if mark in text]:
        raise ValueError(
            f"{text} holds {wrong[0]!r}, which means something else in the URI of MLflow's "
            "database: name a folder without it, or an MLflow server"
        )
    return f"sqlite:///{text}"


def database_path(uri: str) -> Path | None:
    """The file of a sqlite URI; None for other URIs."""
    name = uri.removeprefix("sqlite:///")
    return None if name == uri else Path(name)


def moved(place: str, old: str, new: str) -> str:
    """A place at or below the root `old`, as it is below `new`; any other stays as it is.

    `place` is a path, an s3:// URI or the URI of a sqlite file.
    """
    scheme, found, path = place.rpartition("sqlite:///")
    if found:
        return f"{scheme}{found}{moved(path, old, new)}"
    return f"{new}{place[len(old) :]}" if place == old or place.startswith(f"{old}/") else place


@dataclass(frozen=True)
class Store:
    """One root folder or s3:// URI, and what is below it."""

    uri: str

    @classmethod
    def open(cls, uri: str | os.PathLike[str]) -> Store:
        """A store at `uri`; local paths are made absolute so that workers agree on them.

        A link to a file keeps its name and the files beside it: model caches link to blobs.
        """
        text = os.fspath(uri)
        if not text:
            raise StorageError("an empty path was given; name a folder or an s3:// URI")
        _check_s3(text)
        if "://" not in text:
            path = Path(text).expanduser()
            text = str(path.parent.resolve() / path.name if path.is_file() else path.resolve())
        elif "?" in text:
            raise StorageError(
                f"{text} carries options after '?'; set AWS_ENDPOINT_URL, AWS_DEFAULT_REGION and "
                "the like in the environment instead, where workers find them too"
            )
        return cls(text.rstrip("/"))

    def __truediv__(self, name: str) -> Store:
        return Store(f"{self.uri}/{name}")

    def __str__(self) -> str:
        return self.uri

    def is_below(self, other: Store) -> bool:
        """True if this place lies in the folder `other`."""
        return self.uri.startswith(f"{other.uri}/")

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri or self.uri.startswith("file://")

    @property
    def name(self) -> str:
        return self.uri.rsplit("/", 1)[-1]

    @cached_property
    def _resolved(self) -> tuple[pafs.FileSystem, str]:
        try:
            read = reader_of if self.uri.startswith(PREFIX) else pafs.FileSystem.from_uri
            filesystem, path = self._in_time(lambda: read(self.uri))
        except (ValueError, OSError) as error:
            raise StorageError(f"cannot open {self.uri}: {error}") from error
        return filesystem, path.rstrip("/")

    @property
    def filesystem(self) -> pafs.FileSystem:
        """The pyarrow file system below the root."""
        return self._resolved[0]

    def path(self, name: str = "") -> str:
        """Path of `name` as `filesystem` wants it (no scheme)."""
        return f"{self._resolved[1]}/{name}" if name else self._resolved[1]

    def exists(self, name: str = "") -> bool:
        return self._info(name).type != pafs.FileType.NotFound

    def is_file(self, name: str = "") -> bool:
        return self._info(name).type == pafs.FileType.File

    def time(self, name: str = "") -> int:
        """Time at which a file was written, in ns since 1970; 0 when there is none."""
        return self._info(name).mtime_ns or 0

    def _info(self, name: str) -> pafs.FileInfo:
        with self._naming("read", name):
            return self._in_time(lambda: self.filesystem.get_file_info(self.path(name)))

    def list(self, name: str = "", *, recursive: bool = False) -> list[str]:
        """Names below `name`, relative to it, sorted; empty when there is no such folder."""
        with self._naming("list", name):
            return sorted(self._in_time(lambda: self.infos(name, recursive=recursive)))

    def infos(self, name: str = "", *, recursive: bool = False) -> dict[str, pafs.FileInfo]:
        """Kind, bytes and time of all below a folder, by name; empty when there is no such folder.

        It has no deadline: a million objects take minutes.
        """
        base = self.path(name)
        selector = pafs.FileSelector(base, recursive=recursive, allow_not_found=True)
        with self._naming("list", name):
            infos = self.filesystem.get_file_info(selector)
        return {info.path[len(base) :].lstrip("/"): info for info in infos}

    def size(self, name: str) -> int:
        """Bytes of a file, or StorageError naming it."""
        with self._naming("read", name):
            info = self._info(name)
            if info.type != pafs.FileType.File:
                raise FileNotFoundError("there is no such file")
            return info.size

    def stamps(self) -> dict[str, tuple[int, int]]:
        """Bytes and time (ns since 1970) of files below a folder by name, of a file by ""."""
        infos = {"": self._info("")} if self.is_file() else self.infos(recursive=True)
        files = [name for name, info in infos.items() if info.type == pafs.FileType.File]
        return {name: (infos[name].size, infos[name].mtime_ns or 0) for name in sorted(files)}

    def read(self, name: str = "") -> bytes:
        """The whole file, or StorageError naming it."""
        with self._naming("read", name), self.filesystem.open_input_file(self.path(name)) as file:
            return file.read()

    def head(self, name: str = "") -> bytes:
        """The first HEAD_BYTES of a file, which tell its kind; StorageError naming it."""
        with self._naming("read", name), self.filesystem.open_input_file(self.path(name)) as file:
            return file.read(HEAD_BYTES)

    def stand_in(self, name: str = "") -> str:
        """The clause of `content.stand_in` on a file; empty when it may be data, or is absent."""
        return stand_in(self.head(name)) if self.is_file(name) else ""

    def read_json(
        self,
        name: str,
        fields: Mapping[str, type] | None = None,
        error: type[Exception] = StorageError,
    ) -> Any:
        """The value of a JSON file.

        With `fields` it must be an object that has these, of these types. `error` names the file,
        and the field, of one that is damaged; StorageError the file that cannot be read.
        """
        data = self.read(name)
        try:
            value = json.loads(data)
        except ValueError as broken:
            why = (
                stand_in(data[:HEAD_BYTES]) or f"is not JSON, it is damaged or cut short: {broken}"
            )
            raise error(f"{self._full(name)} {why}") from broken
        if fields is not None and (problem := _misfit(value, fields)):
            raise error(f"{self._full(name)} {problem}; it is damaged, or of another program")
        return value

    def write(self, name: str, data: bytes | Iterable[bytes | memoryview]) -> None:
        """Write a file, given whole or in pieces, atomically and its folders with it."""
        hint = ". Check that the place exists, is writable and has space."
        with self._naming("write", name, hint):
            self._write(name, [data] if isinstance(data, bytes) else data)

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file atomically, keys sorted."""
        self.write(name, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode())

    def _write(self, name: str, pieces: Iterable[bytes | memoryview]) -> None:
        if not self.is_local:
            upload(self._full(name), pieces)
            return
        target = Path(self.path(name))
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
        try:
            with temporary.open("wb") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, name: str = "") -> None:
        """Remove a file or a folder with everything in it; nothing happens when it is absent."""
        kind = self._info(name).type
        with self._naming("delete", name):
            if kind == pafs.FileType.Directory:
                self.filesystem.delete_dir(self.path(name))
            elif kind == pafs.FileType.File:
                self.filesystem.delete_file(self.path(name))

    def move(self, target: Store) -> None:
        """Give this file or folder the name of `target`, which must be free, in the same place.

        An object store has no folders to rename: objects are copied one by one.
        """
        with self._naming("move", ""):
            if self.is_local or self.is_file():
                self.filesystem.move(self.path(), target.path())
                return
            for name in self.list(recursive=True):
                if self.is_file(name):
                    self.filesystem.move(self.path(name), target.path(name))
            self.delete()

    def tidy(self, name: str = "") -> None:
        """Remove unfinished files of killed writers directly in a folder that is complete now."""
        for found in self.list(name) if self.is_local else ():
            if UNFINISHED.fullmatch(found):
                self.delete(f"{name}/{found}" if name else found)

    def check_writable(self) -> None:
        """Write and delete a probe; StorageError names the path when that fails.

        Folders made for it are removed again, since the command may still fail.
        """
        place = Path(self.path()) if self.is_local else None
        if place and place.is_file():
            raise StorageError(f"{self} is a file, where a folder is needed: name another place")
        absent = [each for each in (place, *place.parents) if not each.exists()] if place else []
        probe = f".probe-{uuid.uuid4().hex[:8]}"
        with self._naming("write", probe):
            self._in_time(lambda: self.write(probe, b""))
        self.delete(probe)
        for folder in absent:
            with suppress(OSError):  # someone else has put something there meanwhile
                folder.rmdir()

    def digest(self, name: str = "") -> str:
        """SHA-256 of a file, hex, or StorageError naming it."""
        total = hashlib.sha256()
        with self._naming("read", name), self.filesystem.open_input_file(self.path(name)) as file:
            while chunk := file.read(CHUNK_BYTES):
                total.update(chunk)
        return total.hexdigest()

    def _in_time(self, call: Callable[[], T]) -> T:
        """Result of `call`; for an object store within our deadline, as its own is minutes."""
        if self.is_local:
            return call()
        where = f"AWS_ENDPOINT_URL={endpoint()}" if endpoint() else "the object store"
        return within(call, DEADLINE_S, f"{where} did not answer within {DEADLINE_S:g} s")

    def _full(self, name: str) -> str:
        return f"{self.uri}/{name}" if name else self.uri

    @contextmanager
    def _naming(self, verb: str, name: str, hint: str = "") -> Iterator[None]:
        """Context that turns errors of the file system into a StorageError that names the path."""
        try:
            yield
        except StorageError:
            raise
        except OSError as error:
            raise StorageError(f"cannot {verb} {self._full(name)}: {error}{hint}") from error


def _check_s3(text: str) -> None:
    """StorageError for what looks like an s3:// URI and would be read as a folder of this machine,
    or holds keys, which would be written wherever the place is named."""
    scheme, _, rest = text.partition(":")
    if scheme.lower() != "s3":
        return
    bucket = rest.lstrip("/").partition("/")[0]
    if "@" in bucket:
        raise StorageError(
            f"s3://***@{bucket.rpartition('@')[2]} holds keys: leave them out, and set "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or use a role"
        )
    if not text.startswith(PREFIX) or not bucket or rest.startswith("///"):
        raise StorageError(f"{text} is no s3:// URI: write s3://BUCKET/FOLDER")


def _misfit(value: Any, fields: Mapping[str, type]) -> str:
    """Reason why a JSON value is no object with these fields; empty when it is one."""
    if not isinstance(value, dict):
        return f"holds no JSON object but {str(value)[:40]!r}"
    for name, kind in fields.items():
        if name not in value:
            return f"has no field {name!r}"
        if not isinstance(value[name], (int, float) if kind is float else kind):
            return f"has {name!r} = {str(value[name])[:40]!r}, which is not {_WORDS[kind]}"
    return ""
