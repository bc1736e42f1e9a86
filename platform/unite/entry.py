"""Entry and exit of every command: jobs/, ablations/, dashboards/ and `unite`.

    if __name__ == "__main__":
        sys.exit(run(main))

Whatever is raised leaves as one clear line and an exit code; no traceback is shown. An error that
the package foresaw says itself what to do. Of any other the traceback is in the log file, which
the line names.
"""

from __future__ import annotations

import dis
import hashlib
import io
import os
import select
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from unite.logs import append
from unite.terminal import show_warnings, stream

FAILED = 2
STOPPED = 130
"""Exit code after Ctrl-C, as shells report it."""
NOBODY_READS = 141
"""Exit code for a pipe whose reader has gone, as shells report it."""
PACKAGE = Path(__file__).resolve().parent
WITHOUT_DEPENDENCIES = (
    "activate the environment (. .venv/bin/activate), or make it first (make demo)"
)


def code_digest(package: Path = PACKAGE) -> str:
    """SHA-256 of the package's source, 64 hex digits: equal where the code is the same."""
    total = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        total.update(f"{file.relative_to(package).as_posix()} ".encode() + file.read_bytes())
    return total.hexdigest()


def run(work: Callable[[], int | None], stopped: str = "stopped") -> int:
    """Do the work of a command; returns its exit code.

    0, or what `work` returns: 1 where the work was done and found or left something that is not
    well (a failed check, trial or evaluation, results that MLflow did not take); 2 after any error,
    which is printed as one line; 130 after Ctrl-C, when `stopped` is printed; 141 when nobody reads
    the output any more.
    """
    show_warnings()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # a log file is read while the work goes on
    try:
        code = work() or 0
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print(f"\n{stopped}", file=stream())
        return STOPPED
    except Exception as error:  # noqa: BLE001 - the one place where every error ends
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return NOBODY_READS
        print(f"error: {explain(error)}", file=stream())
        return FAILED


def explain(error: Exception) -> str:
    """An error in the words that a user reads; unexpected ones leave a traceback in the log."""
    if is_foreseen(error):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"{error}: {WITHOUT_DEPENDENCIES}"
    log = append("".join(traceback.format_exception(error)) + "\n")
    text = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{text.rstrip(': ')} (unexpected; the traceback is in {log})"


def is_foreseen(error: BaseException) -> bool:
    """True if the package raised it on purpose: by its own class, or as a ValueError of its own.

    A ValueError of a library, or of a line that was not meant to fail, is not foreseen.
    """
    if type(error).__module__.split(".")[0] == PACKAGE.name:
        return True
    return isinstance(error, ValueError) and _raised_on_purpose(error.__traceback__)


def _raised_on_purpose(trace: TracebackType | None) -> bool:
    """True if the innermost frame is the package's, at a `raise`."""
    if trace is None:
        return False
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    is_ours = Path(code.co_filename).resolve().is_relative_to(PACKAGE)
    return is_ours and dis.opname[code.co_code[trace.tb_lasti]] == "RAISE_VARARGS"


def _nobody_reads() -> bool:
    """True if the output's reader has gone; the rest of the output is then dropped in silence."""
    try:
        output = sys.stdout.fileno()
    except (AttributeError, OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(output, select.POLLERR)
    if not poll.poll(0):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True
