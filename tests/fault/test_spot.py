"""A node of a cluster that is taken away with notice: the run moves, and no step is lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch

from unite.checkpoints.store import latest, read_checkpoint
from unite.cluster.nodes import LocalNodes
from unite.storage import Store
from unite.training.interruptions import read_interruptions
from unite.training.progress import read_progress

NOTICE_S = 20.0


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of its own: a head without CPUs and three nodes for one worker each."""
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves beside other work
    held = LocalNodes(nodes=3, cpus=2)
    yield held
    held.close()


def start(root, storage, name, address, log) -> subprocess.Popen:
    """Train on two of the nodes for 4 epochs; a loss would end it."""
    flags = {
        "--storage": str(storage),
        "--name": name,
        "--training.epochs": "4",
        "--checkpoint.every-images": "1000000",
        "--evaluation.every-images": "1000000",
        "--cluster.num-workers": "2",
        "--cluster.cpus-per-worker": "1.5",
        "--cluster.threads-per-worker": "1",
        "--cluster.max-failures": "0",
    }
    words = [word for pair in flags.items() for word in pair]
    environment = {
        **os.environ,
        "RAY_ADDRESS": address,
        "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
        "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",  # of a busy machine
    }
    return subprocess.Popen(
        [sys.executable, "jobs/train.py", "smoke", *words, "--tracking.no-enabled"],
        cwd=root,
        env=environment,
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
    )


def wait_until_training(process: subprocess.Popen, folder: Store, log) -> None:
    deadline = time.monotonic() + 500
    while (read_progress(folder) or {}).get("images", 0) < 320:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_a_drained_node_is_left_without_a_lost_step(root, tmp_path, nodes):
    log = tmp_path / "log"
    process = start(root, tmp_path, "moved", nodes.address, log)
    try:
        folder = Store.open(tmp_path / "moved")
        wait_until_training(process, folder, log)
        lost = nodes.in_use()
        gone = time.time() + NOTICE_S
        nodes.warn(lost, NOTICE_S)
        while read_progress(folder)["state"] != "leaving":
            assert process.poll() is None, log.read_text()
            assert time.time() < gone, f"too late: {log.read_text()}"
            time.sleep(0.1)
        time.sleep(max(gone - time.time(), 0))
        nodes.lose(lost)
        assert process.wait(timeout=600) == 0, log.read_text()
    finally:
        process.kill()
    said = log.read_text()
    # The worker's own line on the notice may go with the node before Ray has passed it on.
    assert "leaving: " in said and "a worker was lost" not in said
    (moved,) = read_interruptions(folder)
    assert moved.wasted == 0 and 320 < moved.seen == moved.resumed < 4 * 1500

    undisturbed = start(root, tmp_path, "undisturbed", nodes.address, log)
    assert undisturbed.wait(timeout=600) == 0, log.read_text()
    left, right = (
        read_checkpoint(latest(Store.open(tmp_path / name))) for name in ("moved", "undisturbed")
    )
    assert left.images == right.images
    for part, tensors in right.parts.items():
        assert all(torch.equal(left.parts[part][name], value) for name, value in tensors.items())
    assert left.state["history"] == right.state["history"]
