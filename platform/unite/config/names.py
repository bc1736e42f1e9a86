"""Rule for names that users choose and that become part of a path."""

from __future__ import annotations

import re

MAX_BYTES = 120
"""Longest name in bytes. File systems take 255; files beside a run carry its name and more."""
WORDS = ("latest", "auto", "never")
"""Words with another meaning in `--run` and `--resume`."""
BUILTIN = "builtin:"
"""Start of the names of data sets that packages hold; they are written below the storage."""
FOLDERS = (
    *("data", "extractors", "imported", "mlartifacts", "mlflow.db", "references", "sweeps"),
    "timings.json",
)
"""Names of other files and folders in a storage."""
ALLOWED = re.compile(r"[^\W_][\w.+=,@ -]*")


def check_name(name: str, field: str, *, reserved: tuple[str, ...] = (*WORDS, *FOLDERS)) -> str:
    """The name itself; ValueError that names `field` and the fault.

    A name begins with a letter or a digit of any script and goes on with those and . _ - + = , @
    and blanks. So it is one part of a path, in a URI too, and no option of a command.
    """
    problem = _problem(name, reserved)
    if problem:
        raise ValueError(
            f"{field} {name!r} {problem}. A name begins with a letter or a digit and goes on with "
            "letters, digits, blanks and . _ - + = , @"
        )
    return name


def _problem(name: str, reserved: tuple[str, ...]) -> str:
    if not name:
        return "is empty"
    if name.casefold() in reserved:
        return "has a meaning of its own: choose another"
    if ".." in name:
        return "holds '..', which means the folder above"
    if name != name.strip() or name.endswith("."):
        return "ends or begins with a blank or a dot, which some systems drop"
    if len(name.encode()) > MAX_BYTES:
        return f"is longer than {MAX_BYTES} bytes"
    if ALLOWED.fullmatch(name):
        return ""
    if not ALLOWED.match(name):
        return f"begins with {name[0]!r}"
    wrong = next(each for each in name if not ALLOWED.fullmatch(f"a{each}"))
    return f"holds {wrong!r}" + (": it is a name, not a path" if wrong in "/\\" else "")
