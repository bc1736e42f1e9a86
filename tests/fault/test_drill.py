"""Every drill of `unite drill` for real: the promise is kept, and no secret is left anywhere."""

from __future__ import annotations

import json
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from unite.drivers.drill import DRILLS, run_drills
from unite.drivers.faults import Scratch, variables

# In no file: a cluster's nodes get a copy of this checkout, its tests among it.
PLANTED = f"planted-{uuid.uuid4().hex}"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": f"{PLANTED}-storage",
    "AWS_SESSION_TOKEN": f"{PLANTED}-session",
    "MLFLOW_TRACKING_PASSWORD": f"{PLANTED}-password",
    "MLFLOW_TRACKING_USERNAME": "somebody",
    "HF_TOKEN": f"{PLANTED}-hub",
}


STEPS = 128
"""Eight intervals between checkpoints, of which a fault comes in the third."""
SPOT_STEPS = {"": STEPS // 2, "longer": 4 * STEPS}
"""Folder -> half of the steps beside a notice, whose undisturbed run other drills have, too. A fast
machine ends so short a training before the node."""


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    """A short folder for Ray's sockets, its logs, the runs and the spools."""
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="ud-", dir="/tmp"))
    around = {"RAY_TMPDIR": str(folder), "UNITE_LOGS": str(folder / "logs")}
    around |= {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}  # as users have it, unlike other tests
    with variables(around | SECRETS):
        yield Scratch(recipe="smoke", folder=folder, steps=STEPS)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.fault
@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DRILLS)
def test_the_promise_is_kept(scratch, name):
    for folder, steps in SPOT_STEPS.items() if name == "spot" else [("", STEPS)]:
        ours = replace(scratch, folder=scratch.folder / folder, steps=steps)
        ours.folder.mkdir(exist_ok=True)
        (seen,) = run_drills([name], ours)
        if not any("ended before" in promise for promise in seen.broken):
            break
    assert not seen.broken, json.dumps(seen.broken)
    assert seen.pause_s > 0
    left = [file for file in scratch.folder.rglob("*") if file.is_file() and _holds_secret(file)]
    assert not left, "Ray's logs, spools, runs, logs of commands"


def _holds_secret(file: Path) -> bool:
    try:
        return PLANTED.encode() in file.read_bytes()
    except OSError:  # a socket, or a file that goes while Ray ends
        return False
