"""A node of a cluster that is taken away with notice: the run moves, and no step is lost."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import psutil
import pytest
import torch

from unite.checkpoints.store import latest, read_checkpoint
from unite.cluster.preemption import drain
from unite.storage import Store
from unite.training.interruptions import read_interruptions
from unite.training.progress import read_progress

NOTICE_S = 20.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def nodes(monkeypatch):
    """A cluster of its own: a head without CPUs and three nodes for one worker each."""
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves beside other work

    small = {"object_store_memory": 200 * 2**20}
    # Without a dashboard of its own, Train's cleaner asks whatever other cluster it finds.
    head = {"num_cpus": 0, "include_dashboard": True, "dashboard_port": free_port(), **small}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        held = [cluster.add_node(num_cpus=2, **small) for _ in range(3)]
        cluster.wait_for_nodes()
        yield cluster, held
    finally:
        cluster.shutdown()


def start(root, storage, name, address, log) -> subprocess.Popen:
    """Train on two of the nodes for 6 epochs; a loss would end it."""
    flags = {
        "--storage": str(storage),
        "--name": name,
        "--training.epochs": "6",
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


def one_that_trains(held):
    """A node that has a worker of a training."""
    for node in held:
        for started in (each for several in node.all_processes.values() for each in several):
            for process in psutil.Process(started.process.pid).children(recursive=True):
                if "RayTrainWorker" in " ".join(process.cmdline()):
                    return node
    raise AssertionError("no node has a worker")


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(1800)
def test_a_drained_node_is_left_without_a_lost_step(root, tmp_path, nodes):
    cluster, held = nodes
    log = tmp_path / "log"
    process = start(root, tmp_path, "moved", cluster.address, log)
    try:
        folder = Store.open(tmp_path / "moved")
        wait_until_training(process, folder, log)
        lost = one_that_trains(held)
        gone = time.time() + NOTICE_S
        drain(cluster.address, lost.node_id, gone, "a test")
        while read_progress(folder)["state"] != "leaving":
            assert process.poll() is None, log.read_text()
            assert time.time() < gone, f"too late: {log.read_text()}"
            time.sleep(0.1)
        time.sleep(max(gone - time.time(), 0))
        cluster.remove_node(lost, allow_graceful=False)
        assert process.wait(timeout=600) == 0, log.read_text()
    finally:
        process.kill()
    said = log.read_text()
    assert "a node goes away in" in said and "a worker was lost" not in said
    (moved,) = read_interruptions(folder)
    assert moved.wasted == 0 and 320 < moved.seen == moved.resumed < 6 * 1500

    undisturbed = start(root, tmp_path, "undisturbed", cluster.address, log)
    assert undisturbed.wait(timeout=600) == 0, log.read_text()
    left, right = (
        read_checkpoint(latest(Store.open(tmp_path / name))) for name in ("moved", "undisturbed")
    )
    assert left.images == right.images
    for part, tensors in right.parts.items():
        assert all(torch.equal(left.parts[part][name], value) for name, value in tensors.items())
    assert left.state["history"] == right.state["history"]
