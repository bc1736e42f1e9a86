"""A Ray cluster of several nodes on this machine, whose nodes can be warned and lost.

Each node is a raylet with processes of its own, as on a machine of its own; Ray tells them apart.
Used by `unite drill`. It starts Ray's own test cluster, which the pin on one version makes safe.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from typing import Any

import psutil

from unite.cluster.connect import prepare_environment
from unite.cluster.preemption import drain
from unite.network import free_port

STORE_BYTES = 200 * 2**20
"""Object store of a node."""
WORKER = "RayTrainWorker"
"""Part of the name of Ray Train's processes that train."""


def workers(family: Sequence[psutil.Process]) -> list[psutil.Process]:
    """The processes among others that train, oldest first."""
    found = []
    for process in family:
        with contextlib.suppress(psutil.Error):
            if WORKER in process.name():
                found.append((process.create_time(), process.pid, process))
    return [process for *_, process in sorted(found, key=lambda each: each[:2])]


class LocalNodes:
    """A head without CPUs, and nodes with some."""

    def __init__(self, nodes: int, cpus: int) -> None:
        """Start them. The nodes' processes inherit this process's environment."""
        prepare_environment()
        from ray.cluster_utils import Cluster

        head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": STORE_BYTES}
        # Without a dashboard, what Train leaves behind is not cleared away.
        head |= {"include_dashboard": True, "dashboard_port": free_port()}
        self.cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        size: dict[str, Any] = {"num_cpus": cpus, "object_store_memory": STORE_BYTES}
        self.nodes = [self.cluster.add_node(**size) for _ in range(nodes)]

    @property
    def address(self) -> str:
        """Value of RAY_ADDRESS for those who join."""
        return self.cluster.address

    def in_use(self) -> Any:
        """A node on which a worker trains; RuntimeError when there is none."""
        for node in self.nodes:
            raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
            if workers(raylet.children(recursive=True)):
                return node
        raise RuntimeError("no node of the cluster has a worker that trains")

    def warn(self, node: Any, seconds: float) -> None:
        """Tell Ray that a node goes away in `seconds`, as a spot market does."""
        drain(self.address, node.node_id, time.time() + seconds, "the spot market takes it")

    def lose(self, node: Any) -> None:
        """End a node's processes at once."""
        self.cluster.remove_node(node, allow_graceful=False)
        self.nodes.remove(node)

    def close(self) -> None:
        """End all of them."""
        for node in [*self.nodes, self.cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
