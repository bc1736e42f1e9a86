"""`ray job submit --working-dir . -- python jobs/train.py`, as typed, with unite not installed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from unite.checkpoints.store import committed
from unite.storage import Store


@pytest.mark.ray
@pytest.mark.fault
def test_the_readme_command_trains_on_a_running_cluster(root, tmp_path, head):
    bare = subprocess.run(["python", "-c", "import unite"], env=head, capture_output=True)
    assert bare.returncode != 0, "unite must not be importable there"
    environment = head | {"UNITE_STORAGE": str(tmp_path / "runs")}
    command = [
        *("python", "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--"),
        *("python", "jobs/train.py", "smoke", "--storage", str(tmp_path / "runs")),
    ]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = next(name for name in os.listdir(tmp_path / "runs") if name.startswith("smoke"))
    assert committed(Store.open(tmp_path / "runs" / run))
    assert "dB PSNR" in done.stdout
    assert sys.executable not in done.stdout
