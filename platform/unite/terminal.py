"""Output of a command at work: messages, start phases, progress.

All of it goes through one console on the error stream, so that messages stand above a progress
line. Results go to the standard output.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import TYPE_CHECKING, Any, TextIO, cast

from unite import logs
from unite.words import clock

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STARTED = time.monotonic()
"""Time at which the command began: phases are shown with the time since then."""
ERROR_STREAM = 2
COLOUR = re.compile(r"\x1b\[[0-9;]*m")
"""Pattern of a terminal's codes for colours and bold letters."""
_kept: TextIO | None = None


def stream() -> TextIO:
    """The stream of the terminal, also after `divert`."""
    return _kept or sys.stderr


@functools.cache
def console() -> Console:
    """Console for messages and progress; plain where there is no terminal."""
    from rich.console import Console

    return Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)


def tell(text: str) -> None:
    """Print a message, above a progress line if there is one."""
    console().print(text)


def phase(text: str) -> None:
    """Print that a phase of the start is over, with the time since the command began."""
    tell(f"[{clock(time.monotonic() - STARTED)}] {text}")


def progress(*columns: Any, transient: bool = False) -> Progress:
    """A live line on the console; without a terminal it shows nothing."""
    from rich.progress import Progress

    return Progress(
        *columns,
        console=console(),
        transient=transient,
        redirect_stderr=False,  # what others write there is no message of ours
        disable=not console().is_terminal,
    )


class _Copy:
    """The standard output, and what was written to it."""

    def __init__(self, shown: TextIO) -> None:
        self.shown = shown
        self.text = ""

    def write(self, text: str) -> int:
        """Write to both."""
        self.text += text
        return self.shown.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.shown, name)


@contextmanager
def copied() -> Iterator[list[str]]:
    """Context that gives the lines printed in it, without colours, once it has ended."""
    copy, lines = _Copy(sys.stdout), []
    with redirect_stdout(cast(TextIO, copy)):
        yield lines
    lines += COLOUR.sub("", copy.text).splitlines()


def show_warnings() -> None:
    """Show the package's warnings on the console."""
    logs.show_warnings(tell)


def divert() -> None:
    """Send other writers' error stream, C++ code and child processes included, to the log.

    Only `console` writes to the terminal from then on, until the process ends. It does nothing
    where the error stream is captured already, as in tests and notebooks.
    """
    global _kept
    if _kept is not None or sys.stderr is not sys.__stderr__:
        return
    sys.stderr.flush()
    _kept = os.fdopen(os.dup(ERROR_STREAM), "w", buffering=1, errors="backslashreplace")
    console().file = _kept
    log = os.open(logs.log_file(), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(log, ERROR_STREAM)
    os.close(log)
