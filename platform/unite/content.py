"""The kind of a file, told by its first bytes and not by its name.

A link of a model cache has no ending, and a clone or a download that went wrong leaves a text under
the name of the data. Whatever opens a file that comes from elsewhere asks here first.
"""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal["safetensors", "zip", "pickle", "numpy", "parquet", "gzip", "tar", "text", "unknown"]

HEAD_BYTES = 1024
"""Bytes from the start of a file that tell its kind."""
_MAGIC: tuple[tuple[int, bytes, Kind], ...] = (
    (0, b"PK\x03\x04", "zip"),  # torch.save since 2020, and numpy's npz
    (0, b"PK\x05\x06", "zip"),  # an empty one: an npz of no arrays
    (0, b"\x93NUMPY", "numpy"),
    (0, b"PAR1", "parquet"),
    (0, b"\x1f\x8b", "gzip"),
    (257, b"ustar", "tar"),
    (8, b"{", "safetensors"),  # after the length of the JSON header
    (0, b"\x80", "pickle"),  # and torch.save before 2020
)
_LARGEST_HEADER = 100_000_000
"""Largest safetensors header in bytes, as in its library."""


def kind_of(head: bytes) -> Kind:
    """The kind of a file that begins with `head` (HEAD_BYTES of it, or the whole file)."""
    for offset, magic, kind in _MAGIC:
        if head[offset : offset + len(magic)] != magic:
            continue
        if kind != "safetensors" or int.from_bytes(head[:8], "little") <= _LARGEST_HEADER:
            return kind
    return "text" if _is_text(head) else "unknown"


def stand_in(head: bytes) -> str:
    """A clause that names the text in the place of data that never arrived, and the cure.

    It follows the name of a file: "is a Git LFS pointer ...". Empty when the file may be the data.
    """
    if not head:
        return "is empty: copy or download it again"
    if head.startswith(b"version https://git-lfs"):
        size = re.search(rb"^size (\d+)", head, re.MULTILINE)
        stands_for = f" of {int(size[1]):,} bytes" if size else ""
        return (
            f"is a Git LFS pointer, a text that stands for the file{stands_for}: fetch the file "
            "itself with `git lfs pull`"
        )
    if re.match(rb"(\.\./)*\.git/annex/objects/|/annex/objects/", head):
        return "is a git-annex pointer, not the file: fetch the file itself with `git annex get`"
    if re.match(rb"\s*(<!doctype html|<html|<\?xml|<error)", head, re.IGNORECASE):
        return (
            "is a web page (HTML or XML), not the file: the download was answered by a login, an "
            "error or a preview. Download the file itself"
        )
    return ""


def beginning(head: bytes) -> str:
    """A clause that describes a file of another kind: "is text: 'mu'"."""
    kind = kind_of(head)
    if kind == "text":
        first = head.decode(errors="replace").strip().splitlines()
        return f"is text that begins with {first[0][:40]!r}" if first else "is an empty text"
    return "is of an unknown kind" if kind == "unknown" else f"is a {kind} file"


def _is_text(head: bytes) -> bool:
    head = head.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of Windows' editors
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        # The last character may be cut.
        text = head[: error.start].decode() if len(head) - error.start < 4 else "\0"
    return bool(text) and all(character.isprintable() or character.isspace() for character in text)
