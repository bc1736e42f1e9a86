"""The log file of a command, and warnings of the package on their way to the user.

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
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER_VARIABLE = "UNITE_LOGS"
MARK = "unite says: "
"""First words of a Ray worker's line that is meant for the user."""
PACKAGE = __name__.partition(".")[0]
_HERE = Path(__file__).resolve().parent
_PLAIN = warnings.showwarning


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
        pass  # a log must not stop what it tells about; the name of the other folder is told
    return Path(tempfile.mkdtemp(prefix="unite-logs-"))


class Warnings(logging.Handler):
    """Handler that gives warnings to a function as "warning: ..."; a mark begins every line."""

    def __init__(self, write: Callable[[str], object], mark: str = "") -> None:
        super().__init__(logging.WARNING)
        self.write, self.mark = write, mark

    def emit(self, record: logging.LogRecord) -> None:
        """Pass one message on."""
        try:
            text = f"{record.levelname.lower()}: {record.getMessage()}"
            self.write("\n".join(f"{self.mark}{line}" for line in text.splitlines()))
        except Exception:  # noqa: BLE001 - as logging itself does: a message never ends the work
            self.handleError(record)


def show_warnings(write: Callable[[str], object], mark: str = "") -> None:
    """Send the package's warnings to `write`; a second call replaces the first.

    They are those of its loggers and of Python's `warnings`, which tell the same thing once.
    """
    logger = logging.getLogger(PACKAGE)
    for handler in [each for each in logger.handlers if isinstance(each, Warnings)]:
        logger.removeHandler(handler)
    handler = Warnings(write, mark)
    logger.addHandler(handler)

    def show(message: Warning | str, category: type[Warning], filename: str, *rest: Any) -> None:
        """Write a warning of the package; leave those of others to Python."""
        if Path(filename).is_relative_to(_HERE):
            handler.emit(
                logging.LogRecord(PACKAGE, logging.WARNING, filename, 0, message, (), None)
            )
        else:
            _PLAIN(message, category, filename, *rest)

    warnings.showwarning = show


def show_worker_warnings(about: str = "") -> None:
    """Mark the warnings of a Ray worker, so that the driver knows them among Ray's own lines.

    `about` begins each of them. Ray calls this in every worker process that it starts.
    """

    def write(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    show_warnings(write, f"{MARK}{about}")
