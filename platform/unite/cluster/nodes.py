"""A Ray cluster of several nodes on this machine, whose nodes can be warned and lost.

Each node is a raylet with processes of its own, as on a machine of its own; Ray tells them apart.
Used by `unite drill`. It starts Ray's own test cluster, which the pin on one version makes safe.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

from unite.cluster.connect import own_sigterm, prepare_environment
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
        from ray._common.utils import get_ray_address_file
        from ray.cluster_utils import Cluster

        self._named = Path(get_ray_address_file(None))
        self._named_before = self._named.read_text() if self._named.exists() else ""
        head: dict[str, Any] = {"num_cpus": 0, "object_store_memory": STORE_BYTES}
        # Without a dashboard, what Train leaves behind is not cleared away.
        head |= {"include_dashboard": True, "dashboard_port": free_port()}
        with _asking_as_before():
            self.cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        self._folders: list[str] = []
        for _ in range(nodes):
            self.add(cpus)

    @property
    def address(self) -> str:
        """Value of RAY_ADDRESS for those who join."""
        return self.cluster.address

    def add(self, cpus: int) -> None:
        """Start another node, in a folder of its own: in one folder nodes delete each other's copy
        of the code, and Ray waits a minute for a worker that found none."""
        from ray._common.utils import get_default_ray_temp_dir

        above = Path(get_default_ray_temp_dir()).parent  # Unix sockets need a short path
        folder = tempfile.mkdtemp(prefix="node-", dir=above)
        self._folders.append(folder)
        settings = {"temp_dir": folder, "include_log_monitor": True}
        with _asking_as_before():
            node = self.cluster.add_node(num_cpus=cpus, object_store_memory=STORE_BYTES, **settings)
        self.nodes.append(node)

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
        """End all of them; whoever looks for this machine's cluster finds that of before."""
        for node in [*self.nodes, self.cluster.head_node]:
            node.kill_all_processes(check_alive=False, allow_graceful=False)
        self.cluster.global_state.disconnect()
        for folder in self._folders:
            shutil.rmtree(folder, ignore_errors=True)
        if self._named_before:
            self._named.write_text(self._named_before)
        else:
            self._named.unlink(missing_ok=True)


@contextlib.contextmanager
def _asking_as_before() -> Iterator[None]:
    """Context for the start of a node in a process that may have joined another cluster.

    Ray turns this process's client of a cluster's small values (`internal_kv`) to each node that it
    starts. Once that node is gone, the next call meant for the other cluster, such as one of Ray
    Data, would wait for a head that is gone, and Ray ends a process after a minute of that.
    """
    # Ray has no public way to it; the pin on one Ray version is what makes it safe.
    from ray.experimental import internal_kv

    before = internal_kv.internal_kv_get_gcs_client()
    try:
        with own_sigterm():
            yield
    finally:
        internal_kv._internal_kv_reset()
        if before is not None:
            internal_kv._initialize_internal_kv(before)
