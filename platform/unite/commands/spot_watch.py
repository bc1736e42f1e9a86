"""`unite spot-watch`: drains this machine's Ray node when its cloud takes the machine back."""

from __future__ import annotations

import re
from functools import partial

from unite import terminal
from unite.cluster.address import VARIABLE, named_address
from unite.cluster.preemption import drain, own_node
from unite.drivers.metadata import find_cloud
from unite.drivers.spot_watch import find_in_time, watch


def spot_watch(*, cloud: str, address: str, node: str, every_s: float, once: bool) -> None:
    """Watch until a notice, then drain; `once` looks once, at the cloud and at the cluster."""
    if not every_s > 0:
        raise ValueError(f"--every-s {every_s} must be above 0: seconds between two looks")
    place = address or named_address()
    if not re.fullmatch(r"[^/]+:\d+", place):
        raise ValueError(
            f"--address {place!r} and {VARIABLE}: name the head of the cluster as HOST:PORT (6379 "
            "as a rule)"
        )
    found = find_cloud(cloud) if once else find_in_time(partial(find_cloud, cloud))

    def gone(ends: float) -> None:
        """Drain this machine's node; which one it is may have changed since the start."""
        drain(place, node or own_node(place), ends, f"{found.name} takes the machine back")

    if once:
        terminal.tell(f"{found.name} answers; this machine is node {node or own_node(place)}")
    else:
        terminal.tell(f"watching for notices of {found.name}, every {every_s:g} s")
    if not watch(found, gone, every_s=every_s, once=once):
        terminal.tell("no notice")
