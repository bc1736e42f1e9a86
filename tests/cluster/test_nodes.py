"""A cluster of several nodes beside another one in the same process, which stays what it was."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from unite.cluster.nodes import LocalNodes


@pytest.mark.ray
@pytest.mark.slow
def test_the_cluster_of_this_process_is_asked_on_when_the_nodes_are_gone(ray_cluster):
    from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_put

    _internal_kv_put("here", "ours")
    named = Path(os.environ["RAY_TMPDIR"]) / "ray" / "ray_current_cluster"
    before = signal.getsignal(signal.SIGTERM), named.read_text() if named.exists() else ""
    nodes = LocalNodes(nodes=1, cpus=1)
    try:
        assert nodes.address != ray_cluster.get_runtime_context().gcs_address
        assert _internal_kv_get("here") == b"ours"
        assert named.read_text() == nodes.address
    finally:
        nodes.close()
    # Ray Data writes there at each execution; of a head that is gone, Ray ends this process.
    assert _internal_kv_get("here") == b"ours"
    after = signal.getsignal(signal.SIGTERM), named.read_text() if named.exists() else ""
    assert after == before
