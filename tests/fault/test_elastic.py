"""A group of 1..2 workers that loses a node and gets another: it shrinks, and grows again."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from unite.cluster.nodes import LocalNodes
from unite.storage import Store
from unite.training.interruptions import read_interruptions
from unite.training.progress import read_progress
from unite.training.runs import request_stop

CPUS = 2
FLAGS = {
    "--training.epochs": "400",  # it is stopped
    "--checkpoint.every-images": "3200",
    "--evaluation.every-images": "100000000",
    "--cluster.num-workers": "1..2",
    "--cluster.cpus-per-worker": "1.5",  # one worker a node, and room for Ray Data beside it
    "--cluster.threads-per-worker": "1",
}


@pytest.fixture
def nodes(monkeypatch):
    monkeypatch.setenv("RAY_worker_niceness", "0")  # Ray's own 15 starves beside other work
    held = LocalNodes(nodes=2, cpus=CPUS)
    yield held
    held.close()


class Training:
    """`jobs/train.py` on the nodes, in a process of its own."""

    def __init__(self, root, storage, address) -> None:
        words = [word for pair in FLAGS.items() for word in pair]
        words += ["--storage", str(storage), "--name", "one", "--tracking.no-enabled"]
        self.log, self.folder = storage / "log", Store.open(storage / "one")
        self.process = subprocess.Popen(
            [sys.executable, "jobs/train.py", "smoke", *words],
            cwd=root,
            env={**os.environ, "RAY_ADDRESS": address},
            stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )

    @property
    def said(self) -> str:
        return self.log.read_text()

    def until(self, holds) -> None:
        deadline = time.monotonic() + 400
        while not holds():
            assert self.process.poll() is None and time.monotonic() < deadline, self.said
            time.sleep(0.2)

    @property
    def images(self) -> int:
        return (read_progress(self.folder) or {}).get("images", 0)


@pytest.mark.long
@pytest.mark.ray
@pytest.mark.fault
@pytest.mark.timeout(1500)
def test_a_group_shrinks_with_the_cluster_and_grows_at_a_checkpoint(root, tmp_path, nodes):
    run = Training(root, tmp_path, nodes.address)
    try:
        run.until(lambda: "2 workers of 1..2" in run.said and run.images > 3200)
        seen = run.images
        nodes.lose(nodes.in_use())
        run.until(lambda: "1 worker of 1..2" in run.said and run.images > seen + 640)
        before = run.said.count("a worker was lost")
        nodes.add(CPUS)
        run.until(lambda: run.said.count("2 workers of 1..2") == 2)
        grown_at = run.images
        run.until(lambda: run.images > grown_at + 3200)
        request_stop(run.folder)
        assert run.process.wait(timeout=300) in (0, 130), run.said
    finally:
        run.process.kill()
    assert run.said.count("a worker was lost") == before, "growing is no loss"
    lost, *others = read_interruptions(run.folder)
    assert 0 < lost.wasted <= 3200 + 320, "what was trained since the checkpoint"
    assert all(each.wasted == 0 for each in others), "growing costs no step"
