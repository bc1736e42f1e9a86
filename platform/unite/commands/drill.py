"""`unite drill`: a table of what faults cost, or JSON; exits with 1 when a promise is broken."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import get_args

from unite.drivers.drill import Name, Observation, run_drills
from unite.drivers.faults import Scratch, variables
from unite.drivers.signals import stop_on_signals
from unite.tables import print_table

COLUMNS = ("", "drill", "images lost", "promised", "longest pause, s", "typed", "weights")


def drill(names: Sequence[Name], *, recipe: str, steps: int, keep: bool, as_text: bool) -> None:
    """Do drills in a temporary storage, removed unless `keep`; ValueError without names."""
    if not names:
        raise ValueError(f"name one drill or several: {', '.join(get_args(Name))}")
    # A user names a short folder for Ray where that of temporary files is too long for sockets.
    folder = Path(tempfile.mkdtemp(prefix="unite-drill-", dir=os.environ.get("RAY_TMPDIR") or None))
    scratch = Scratch(recipe=recipe, folder=folder, steps=steps)
    seen: list[Observation] = []
    try:
        around = {"RAY_TMPDIR": str(folder), "UNITE_LOGS": str(folder / "logs")}
        with stop_on_signals(), variables(around):  # whatever ends it ends what it started
            seen.extend(run_drills(names, scratch))
    finally:
        if keep:
            print(f"kept: {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    if as_text:
        print(json.dumps([asdict(each) for each in seen], indent=1))
    else:
        _show(seen)
    if any(each.broken for each in seen):
        sys.exit(1)


def _show(seen: Sequence[Observation]) -> None:
    print_table(
        COLUMNS,
        [
            (
                "BROKEN" if each.broken else "kept",
                each.drill,
                each.images_lost,
                f"at most {each.most_images:,}",
                each.pause_s,
                f"{each.typed} of {each.most_typed}",
                each.weights,
            )
            for each in seen
        ],
    )
    for each in seen:
        print(f"{each.drill}: {each.does}")
        for promise in each.broken:
            print(f"  broken: {promise}")
