"""Scripts of the repository as they are typed, in a process that tells what it has imported."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
HEAVY = frozenset({"torch", "ray", "mlflow", "sklearn"})
"""Modules that take seconds or hundreds of megabytes."""
SCRIPT = """
import runpy, sys
sys.argv, heavy = sys.argv[2:], sys.argv[1].split(",")
try: runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as end: print("END", end.code)
print("HEAVY", sorted(set(heavy) & set(sys.modules)))
"""


def typed(
    *words: str, heavy: Collection[str] = HEAVY, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The script and what it printed; fails unless it ended well without the heavy modules."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, ",".join(heavy), *words],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    assert "END 0" in done.stdout and "HEAVY []" in done.stdout, done.stdout + done.stderr
    return done
