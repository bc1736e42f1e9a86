"""An object store that refuses connections in the middle of a training under Ray: time is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from unite.checkpoints.store import latest, read_checkpoint
from unite.storage import Store
from unite.training.progress import read_progress

AWAY_S = 30.0


def command(storage: str, name: str) -> list[str]:
    flags = {
        "--storage": storage,
        "--name": name,
        "--training.epochs": "2",
        "--checkpoint.every-images": "512",
        "--evaluation.every-images": "1000000",
        "--cluster.max-failures": "0",
        "--cluster.threads-per-worker": "1",
    }
    words = [word for pair in flags.items() for word in pair]
    return [sys.executable, "jobs/train.py", "smoke", *words, "--tracking.no-enabled"]


@pytest.mark.long
@pytest.mark.fault
@pytest.mark.timeout(900)
def test_thirty_seconds_without_storage_cost_no_restart_and_no_bit(stumbling_s3, root, tmp_path):
    uri, proxy = stumbling_s3
    run = Store.open(f"{uri}/st/away")
    log = tmp_path / "log"
    with log.open("w") as file:
        process = subprocess.Popen(
            command(f"{uri}/st", "away"), cwd=root, stdout=file, stderr=file, env=dict(os.environ)
        )
        try:
            deadline = time.monotonic() + 300
            while (read_progress(run) or {}).get("images", 0) < 600:
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            proxy.mode = "refuse"
            time.sleep(AWAY_S)
            assert process.poll() is None, log.read_text()
            proxy.mode = ""
            assert process.wait(timeout=400) == 0, log.read_text()
        finally:
            process.kill()
    undisturbed = command(str(tmp_path / "st"), "undisturbed")
    subprocess.run(undisturbed, cwd=root, check=True, capture_output=True, timeout=400)
    left = read_checkpoint(latest(run))
    right = read_checkpoint(latest(Store.open(tmp_path / "st" / "undisturbed")))
    assert left.images == right.images
    for part, tensors in right.parts.items():
        assert all(torch.equal(left.parts[part][name], value) for name, value in tensors.items())


@pytest.mark.long
@pytest.mark.fault
def test_storage_that_never_answers_is_said_at_the_start(stumbling_s3, root):
    uri, proxy = stumbling_s3
    proxy.mode = "hang"
    said = subprocess.run(
        command(f"{uri}/st", "silent"), cwd=root, capture_output=True, text=True, timeout=120
    )
    assert said.returncode == 2
    assert f"AWS_ENDPOINT_URL={proxy.url} did not answer within 20 s" in said.stderr
