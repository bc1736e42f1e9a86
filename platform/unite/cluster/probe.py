"""Facts of every node of a Ray cluster, and an all-reduce between each two of them.

Each node answers in a task of its own that takes no CPU, so that a busy cluster answers too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from typing import Any

from unite.cluster.connect import connect
from unite.network import DEADLINE_S, free_port

Facts = dict[str, Any]
"""Plain data that a node tells of itself; `host` is its name. One that tells nothing has `error`,
the reason, beside its name."""
FACTS_DEADLINE_S = 2 * DEADLINE_S
"""Seconds that all nodes together get to tell their facts."""
PAIR_DEADLINE_S = 30.0
"""Seconds that two nodes get to find each other and to sum a number."""
CLOCK_LOOKS = 3


def cluster_facts(ask: Callable[..., Facts], *given: Any) -> list[Facts]:
    """Result of `ask(*given)` on every living node of the cluster, with its id and address.

    `time` is what its clock said, `asked_at` the driver's time in the middle of the asking,
    `time_error_s` half of its length. Where several hosts have one name, it says the first digits
    of the node's id, too.
    """
    connect()
    import ray

    task = ray.remote(num_cpus=0)(ask)
    alive = [node for node in ray.nodes() if node["Alive"]]
    asked = [
        (node, task.options(scheduling_strategy=_on(node["NodeID"])).remote(*given))
        for node in alive
    ]
    deadline = time.monotonic() + FACTS_DEADLINE_S
    return told_apart([_answer(node, pending, deadline) for node, pending in asked])


def _answer(node: dict[str, Any], pending: Any, deadline: float) -> Facts:
    """Facts of a node, or the reason why there are none."""
    import ray
    from ray.exceptions import GetTimeoutError, RayError

    known = {"node_id": node["NodeID"], "address": node["NodeManagerAddress"]}
    try:
        told: Any = ray.get(pending, timeout=max(deadline - time.monotonic(), 0.0))
        return told | _clock(node["NodeID"]) | known
    except GetTimeoutError:
        reason = f"no answer within {FACTS_DEADLINE_S:g} s"
    except RayError as error:
        reason = str(error).strip().splitlines()[-1]
    return {"host": node["NodeManagerHostname"], "error": reason} | known


def _clock(node_id: str) -> Facts:
    """A node's time against the driver's, of some looks the quickest: by now a process waits."""
    import ray

    look = ray.remote(num_cpus=0)(_now).options(scheduling_strategy=_on(node_id))
    seen = []
    for _ in range(CLOCK_LOOKS):
        asked = time.time()
        there = ray.get(look.remote(), timeout=DEADLINE_S)
        spent = time.time() - asked
        seen.append({"time": there, "asked_at": asked + spent / 2, "time_error_s": spent / 2})
    return min(seen, key=lambda each: each["time_error_s"])


def _now() -> float:
    return time.time()


def told_apart(nodes: list[Facts]) -> list[Facts]:
    """Facts whose hosts are told apart by the nodes' ids where several have one name."""
    named = Counter(each["host"] for each in nodes)
    return [
        each | {"host": f"{each['host']} ({each['node_id'][:6]})"}
        if named[each["host"]] > 1
        else each
        for each in nodes
    ]


def all_pairs(nodes: list[Facts]) -> dict[tuple[str, str], str]:
    """Error (empty = none) of a gloo all-reduce between each two nodes, by their hosts."""
    return {
        (one["host"], other["host"]): _pair(one, other) for one, other in combinations(nodes, 2)
    }


def _pair(one: Facts, other: Facts) -> str:
    import ray

    finder, member = ray.remote(num_cpus=0)(free_port), ray.remote(num_cpus=0)(_sum)
    tasks = []
    try:
        found = finder.options(scheduling_strategy=_on(one["node_id"])).remote()
        port = ray.get(found, timeout=DEADLINE_S)
        tasks = [
            member.options(scheduling_strategy=_on(node["node_id"])).remote(
                rank, one["address"], port, PAIR_DEADLINE_S
            )
            for rank, node in enumerate((one, other))
        ]
        results = ray.get(tasks, timeout=2 * PAIR_DEADLINE_S)
    except Exception as error:  # Ray's, torch's or a deadline: all mean that the pair fails
        for task in tasks:
            ray.cancel(task, force=True)
        return str(error).strip().splitlines()[-1]
    return "" if results == [3.0, 3.0] else f"the sum of 1 and 2 came out as {results}"


def _sum(rank: int, address: str, port: int, seconds: float) -> float:
    """Sum of rank + 1 over two ranks that meet at an address."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    limit = timedelta(seconds=seconds)
    where = f"tcp://{address}:{port}"
    dist.init_process_group("gloo", init_method=where, rank=rank, world_size=2, timeout=limit)
    value = torch.tensor([rank + 1.0])
    dist.all_reduce(value)
    dist.destroy_process_group()
    return float(value)


def _on(node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)
