"""Wall time and memory of whole commands in two checkouts of this repository, in turn.

    python benchmarks/commands.py ../before . "python jobs/train.py" \\
        "python jobs/evaluate.py --run latest"

Headline: for each command the second checkout's median over the first one's, of wall time and of
peak memory; above 1 the second is slower or larger. Both arms run in one call: in every round each
checkout gets an empty storage and runs all commands there in their order, and the arm that begins
changes from round to round, so that a machine that warms up or is disturbed touches both alike.
The first round fills caches (bytecode, files) and is not counted. Memory is the sum over the
command's process and all its descendants, looked at every 50 ms: a page that several processes
share counts for each of them, in both arms.
"""

import argparse
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import psutil

POLL_S = 0.05
PYTHON = "python"
"""First word of a command that is replaced by this interpreter."""
TOLD = 2000
"""Characters of a failed command's output that are shown, from its end."""


class Run(NamedTuple):
    """One run of a command."""

    seconds: float
    bytes: int
    """Peak of resident memory of all its processes together."""


def run(command: str, checkout: Path, storage: Path) -> Run:
    """Run a command to its end in a checkout; RuntimeError with its output when it fails."""
    first, *rest = shlex.split(command)
    words = [sys.executable if first == PYTHON else first, *rest]
    places = {"UNITE_STORAGE": str(storage), "PYTHONPATH": str(checkout / "platform")}
    with tempfile.TemporaryFile("w+") as output:
        started = time.perf_counter()
        process = subprocess.Popen(
            words, cwd=checkout, env=os.environ | places, stdout=output, stderr=subprocess.STDOUT
        )
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(POLL_S)
        seconds = time.perf_counter() - started
        if process.returncode:
            output.seek(0)
            raise RuntimeError(f"{command} in {checkout} failed: {output.read()[-TOLD:]}")
    return Run(seconds, peak)


def resident(pid: int) -> int:
    """Bytes of resident memory of a process and its descendants, of those still there."""
    total = 0
    try:
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            total += each.memory_info().rss
    except psutil.NoSuchProcess:
        pass
    return total


def measure(
    checkouts: Sequence[Path], commands: Sequence[str], rounds: int
) -> dict[str, list[list[Run]]]:
    """Command -> runs of each checkout, without those of the first round."""
    runs: dict[str, list[list[Run]]] = {each: [[] for _ in checkouts] for each in commands}
    for number in range(rounds + 1):
        arms = list(enumerate(checkouts))
        for arm, checkout in arms if number % 2 else reversed(arms):
            with tempfile.TemporaryDirectory() as storage:
                for command in commands:
                    found = run(command, checkout, Path(storage))
                    if number:
                        runs[command][arm].append(found)
    return runs


def row(command: str, arms: Sequence[Sequence[Run]]) -> str:
    """A line of the table: medians of both arms with the spread of times, and the ratios."""
    times = [[each.seconds for each in runs] for runs in arms]
    old_s, new_s = map(statistics.median, times)
    old_b, new_b = (statistics.median(each.bytes for each in runs) for runs in arms)
    spread = ", ".join(f"{median:.2f} ({min(each):.2f} to {max(each):.2f})"
                       for median, each in zip((old_s, new_s), times, strict=True))  # fmt: skip
    memory = f"{old_b / 2**20:.0f}, {new_b / 2**20:.0f}"
    ratio = f"{new_b / old_b:.3f}" if old_b else "shorter than a look"
    return f"| `{command}` | {spread} | {new_s / old_s:.3f} | {memory} | {ratio} |"


def main() -> None:
    """Run all commands in both checkouts and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", type=Path, nargs=2, help="checkout before and after")
    parser.add_argument("commands", nargs="+", help="commands, each as one word, in their order")
    parser.add_argument("--rounds", type=int, default=5, help="counted runs of each command")
    arguments = parser.parse_args()
    checkouts = [each.resolve() for each in arguments.checkouts]
    runs = measure(checkouts, arguments.commands, arguments.rounds)
    print("| command | s, median (range): before, after | ratio | peak MiB | ratio |")
    print("| --- | --- | --- | --- | --- |")
    for command, arms in runs.items():
        print(row(command, arms))


if __name__ == "__main__":
    main()
