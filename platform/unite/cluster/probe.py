"""Facts of every node of a Ray cluster, and an all-reduce between each two of them.

Each node answers in a task of its own that takes no CPU, so that a busy cluster answers too.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from unite.cluster.connect import connect
from unite.network import DEADLINE_S, free_port
from unite.terminal import phase
from unite.words import count

T = TypeVar("T")
Facts = dict[str, Any]
"""Plain data that a node tells of itself; `host` is its name. One that tells nothing has `error`,
the reason, beside its name."""
Sums = dict[tuple[str, str], str | None]
"""Outcome of the all-reduce between two nodes, by their hosts: its error, empty if it agrees, None
if no GPU was free to try it."""
FACTS_DEADLINE_S = 2 * DEADLINE_S
"""Seconds that all nodes together get to tell their facts."""
PAIR_DEADLINE_S = 30.0
"""Seconds that two nodes get to find a free GPU each, to find each other, and to sum."""
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

    known = {
        "node_id": node["NodeID"],
        "address": node["NodeManagerAddress"],
        "ray_gpus": int(node["Resources"].get("GPU", 0)),
    }
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


def all_pairs(nodes: Sequence[Facts], backend: str = "gloo") -> Sums:
    """Outcome of an all-reduce between each two nodes, in rounds of pairs at one time.

    `backend` is `gloo`, between CPUs, or `nccl`, between a free GPU of each node.
    """
    sums: Sums = {}
    for number, pairs in enumerate(rounds(nodes), 1):
        with ThreadPoolExecutor(len(pairs)) as pool:
            outcomes = list(pool.map(lambda pair: _pair(pair[0], pair[1], backend), pairs))
        sums |= {
            (one["host"], other["host"]): outcome
            for (one, other), outcome in zip(pairs, outcomes, strict=True)
        }
        phase(f"{backend}: round {number} of pairs, {count(len(sums), 'pair')} tried")
    return sums


def rounds(nodes: Sequence[T]) -> Iterator[list[tuple[T, T]]]:
    """Every two nodes once, in rounds in which a node stands at most once.

    One node keeps its seat and the others move on by one, so that n nodes take n - 1 rounds, n if
    n is odd: then a seat stays empty.
    """
    seats = [*nodes, *([None] if len(nodes) % 2 else [])]
    for _ in seats[1:]:
        facing = zip(seats, reversed(seats[len(seats) // 2 :]), strict=False)
        pairs = [(one, other) for one, other in facing if one is not None and other is not None]
        if pairs:
            yield pairs
        seats = [seats[0], seats[-1], *seats[1:-1]]


def _pair(one: Facts, other: Facts, backend: str) -> str | None:
    """Outcome of the all-reduce between two nodes."""
    from ray.exceptions import GetTimeoutError

    places = [_on(node["node_id"]) for node in (one, other)]
    gpus = int(backend == "nccl")
    try:
        port = _port(places, gpus)
        if port is None:
            return None
        given = [(backend, rank, one["address"], port, PAIR_DEADLINE_S) for rank in (0, 1)]
        sums = _on_both(_sum, places, gpus, given, 2 * PAIR_DEADLINE_S)
    except GetTimeoutError:
        return f"no answer within {2 * PAIR_DEADLINE_S:g} s"
    except Exception as error:  # Ray's or torch's: all mean that the pair fails
        return str(error).strip().splitlines()[-1]
    return "" if sums == [3.0, 3.0] else f"the sum of 1 and 2 came out as {sums}"


def _port(places: Sequence[Any], gpus: int) -> int | None:
    """A free port of the first of two nodes; None where one of them has no GPU free."""
    from ray.exceptions import GetTimeoutError

    try:
        return _on_both(free_port, places, gpus, [(), ()], PAIR_DEADLINE_S)[0]
    except GetTimeoutError:
        if not gpus:
            raise
        return None


def _on_both(
    task: Callable[..., Any],
    places: Sequence[Any],
    gpus: int,
    given: Sequence[tuple[Any, ...]],
    seconds: float,
) -> list[Any]:
    """Results of a function on two nodes at one time, each with its arguments and its GPUs."""
    import ray

    remote: Any = ray.remote(task)
    tasks = [
        remote.options(num_cpus=0, num_gpus=gpus, scheduling_strategy=place).remote(*each)
        for place, each in zip(places, given, strict=True)
    ]
    try:
        return ray.get(tasks, timeout=seconds)
    except Exception:
        for each in tasks:
            ray.cancel(each, force=True)
        raise


def _sum(backend: str, rank: int, address: str, port: int, seconds: float) -> float:
    """Sum of rank + 1 over two ranks that meet at an address, on a GPU each under NCCL."""
    from datetime import timedelta

    import torch
    import torch.distributed as dist

    limit = timedelta(seconds=seconds)
    where = f"tcp://{address}:{port}"
    dist.init_process_group(backend, init_method=where, rank=rank, world_size=2, timeout=limit)
    value = torch.tensor([rank + 1.0], device="cuda" if backend == "nccl" else "cpu")
    dist.all_reduce(value)
    dist.destroy_process_group()
    return float(value)


def _on(node_id: str) -> Any:
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    return NodeAffinitySchedulingStrategy(node_id, soft=False)
