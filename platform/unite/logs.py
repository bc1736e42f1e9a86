"""The log file of a command, and who speaks on the terminal.

A command has one log file, made when the first line comes: tracebacks of unexpected errors and
everything that Ray says go there, so that the terminal is ours alone. It lies in a folder of its
own, because a run's folder may be half made, or be what failed.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
import tempfile
import time
from pathlib import Path

FOLDER_VARIABLE = "UNITE_LOGS"
MARK = "unite-says:"
"""Begins a line of a Ray worker that is meant for the user."""
PACKAGE = __name__.partition(".")[0]


@functools.cache
def log_file() -> Path:
    """Path of this command's log file, in UNITE_LOGS or else in the temporary folder."""
    script = Path(sys.argv[0]).stem or "python"
    name = f"{script}-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    return _folder() / name


def append(text: str) -> Path:
    """Add text to the log file; returns its path."""
    with log_file().open("a", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return log_file()


def _folder() -> Path:
    """A folder that this user owns; another user's of the same name is left alone."""
    named = os.environ.get(FOLDER_VARIABLE)
    folder = Path(named or Path(tempfile.gettempdir()) / f"unite-logs-{os.getuid()}").absolute()
    try:
        folder.mkdir(mode=0o700, parents=bool(named), exist_ok=True)
        if folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK):
            return folder
    except OSError:
        pass  # reported by nobody: a log must not stop what it tells about
    return Path(tempfile.mkdtemp(prefix="unite-logs-"))


class Warnings(logging.Handler):
    """Prints the package's warnings on whatever the error stream is at that moment.

    A progress line replaces the stream while it is shown, so that messages stand above it.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(logging.WARNING)
        self.prefix = prefix

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message; every line of it has the prefix."""
        try:
            text = f"{record.levelname.lower()}: {record.getMessage()}"
            lines = (f"{self.prefix}{line}" for line in text.splitlines())
            print("\n".join(lines), file=sys.stderr, flush=True)
        except Exception:  # noqa: BLE001 - as logging itself: a message never ends the work
            self.handleError(record)


def show_warnings(prefix: str = "") -> None:
    """Print the package's warnings as "warning: ..."; again with another prefix replaces it."""
    logger = logging.getLogger(PACKAGE)
    for handler in [each for each in logger.handlers if isinstance(each, Warnings)]:
        logger.removeHandler(handler)
    logger.addHandler(Warnings(prefix))
    logger.propagate = False


def show_worker_warnings() -> None:
    """Do the same in a Ray worker, whose lines reach the driver among Ray's own."""
    show_warnings(f"{MARK} ")
