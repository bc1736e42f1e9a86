"""Diagnosis of machines before a run: a table of findings, each failing one with its cure.

`machine.facts` collects on every node; here they are compared with each other and with the needs of
a recipe. No Ray here: whoever asks a cluster hands in its facts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from unite.cluster.connect import OBJECT_STORE_BYTES
from unite.cluster.probe import Sums
from unite.cluster.resources import streams
from unite.config.schema import ClusterConfig
from unite.drivers.machine import Facts
from unite.words import GIB, count

MAX_SKEW_S = 2.0
"""Difference between two clocks in seconds above which leases and times mislead."""
SLOW_LATENCY_S = 1.0
"""Seconds to write one byte from which a storage is told to be slow."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One row of the table: a check on a node, its result, and the cure of a failure."""

    check: str
    node: str
    found: str
    ok: bool = True
    cure: str = ""

    def unless(self, ok: object, cure: str) -> Finding:
        """The row as it is if all is well, else as a failing one with its cure."""
        return self if ok else replace(self, ok=False, cure=cure)


def diagnose(
    nodes: Sequence[Facts],
    *,
    needs: int = 0,
    cluster: ClusterConfig | None = None,
    pairs: Mapping[str, Sums] | None = None,
) -> list[Finding]:
    """Findings about all nodes, the driver's machine first.

    `needs` is the main memory in bytes that a worker of the recipe takes, `cluster` its workers;
    `pairs` holds the outcomes of all-reduces between two nodes, by backend: `gloo` and `nccl`.
    """
    findings = [_silent(facts) for facts in nodes if "error" in facts]
    nodes = [facts for facts in nodes if "error" not in facts]
    findings += [*_versions(nodes), *_clocks(nodes)]
    for facts in nodes:
        findings += [
            *_size(facts, needs),
            _shared(facts, cluster),
            *_storage(facts),
            _tracking(facts),
        ]
    if pairs is not None:
        for backend, sums in pairs.items():
            findings += _sums(backend, sums)
    return findings


def as_json(nodes: Sequence[Facts], findings: Sequence[Finding]) -> dict[str, Any]:
    """Facts and findings as plain data, without any environment variable."""
    return {
        "ok": all(each.ok for each in findings),
        "nodes": [dict(facts) for facts in nodes],
        "findings": [asdict(each) for each in findings],
    }


def _silent(facts: Facts) -> Finding:
    """A node that lives for Ray and does not tell its facts."""
    cure = "look at Ray's logs there, build the node from requirements.lock, start its Ray anew"
    return Finding(check="answer", node=facts["host"], found=facts["error"], ok=False, cure=cure)


def _versions(nodes: Sequence[Facts]) -> Iterator[Finding]:
    """Versions that must be the same everywhere, compared with the first node's."""
    readers: dict[str, Callable[[Facts], str]] = {
        "python": lambda facts: facts["python"].rpartition(".")[0],
        "code": lambda facts: facts["code"],
    }
    for package in nodes[0]["packages"]:
        readers[package] = lambda facts, package=package: facts["packages"][package]
    for name, read in readers.items():
        first = read(nodes[0])
        others = [facts for facts in nodes[1:] if read(facts) != first]
        for facts in others:
            found = f"{read(facts)}, {nodes[0]['host']} has {first}"
            cure = "submit with --working-dir . (code), or build nodes from requirements.lock"
            yield Finding(check=name, node=facts["host"], found=found, ok=False, cure=cure)
        if not others:
            yield Finding(check=name, node="all", found=first)


def _clocks(nodes: Sequence[Facts]) -> Iterator[Finding]:
    """Clocks against the first node's, as far as the asking itself can tell (`time_error_s`)."""
    for facts in nodes[1:]:
        skew = max(0.0, abs(facts["time"] - facts["asked_at"]) - facts["time_error_s"])
        row = Finding(check="clock", node=facts["host"], found=f"{skew:.1f} s apart")
        cure = "start the time service (chrony, systemd-timesyncd)"
        yield row.unless(skew <= MAX_SKEW_S, cure)


def _sums(backend: str, sums: Sums) -> Iterator[Finding]:
    """A row for each pair of nodes whose all-reduce fails, and one for all that end alike."""
    of_gpus = " with GPUs" if backend == "nccl" else ""
    row = Finding(
        check=f"all-reduce, {backend}",
        node="all",
        found=f"not tried: there are no two nodes{of_gpus}",
    )
    if not sums:
        yield row
    for outcome, found in {"": "agrees", None: "not tried: no GPU was free"}.items():
        pairs = [" - ".join(pair) for pair, error in sums.items() if error == outcome]
        if pairs:
            node = pairs[0] if len(pairs) == 1 else count(len(pairs), "pair")
            yield replace(row, node=node, found=found)
    cure = "open all ports between the nodes: security group, firewall, network policy"
    if of_gpus:
        cure += "; NCCL_SOCKET_IFNAME names the interface between them, NCCL_DEBUG=INFO says more"
    for pair, error in sums.items():
        if error:
            yield replace(row, node=" - ".join(pair), found=error).unless(False, cure)


def _size(facts: Facts, needs: int) -> Iterator[Finding]:
    node, gpus = facts["host"], facts["gpus"]
    names = ", ".join(f"{gpu['name']} {gpu['memory'] / GIB:.0f} GiB" for gpu in gpus) or "none"
    yield Finding(check="CPUs", node=node, found=count(facts["cpus"], "core"))
    counted, whose = facts.get("driver_gpus", len(gpus)), "the driver"
    if "ray_gpus" in facts:
        counted, whose = facts["ray_gpus"], "Ray"
    told = "" if counted == len(gpus) else f", {whose} counts {counted}"
    cure = "install the GPU's driver, in containers NVIDIA's toolkit, and a torch built for it"
    row = Finding(check="GPUs", node=node, found=names + told)
    yield row.unless(counted <= len(gpus), cure)
    wanted = f", a worker needs {needs / GIB:.1f}" if needs else ""
    row = Finding(check="memory", node=node, found=f"{facts['memory'] / GIB:.1f} GiB{wanted}")
    cure = "lower training.batch_size or raise training.accumulation"
    yield row.unless(facts["memory"] >= needs, cure)


def _shared(facts: Facts, cluster: ClusterConfig | None) -> Finding:
    """Free space of /dev/shm against the object store, which falls back to a disk without it."""
    wanted, whose = OBJECT_STORE_BYTES, "Ray's own store"
    if cluster:
        here = {"CPU": facts["cpus"], "GPU": len(facts["gpus"])}
        workers, needs = streams(cluster, here)
        if needs > wanted:
            wanted, whose = needs, f"the data of {count(workers, 'worker')}"
    cure = f"start the container with --shm-size={-(-2 * wanted // GIB)}g, or mount a memory volume"
    have = facts["shared_memory"]
    found = f"{have / GIB:.1f} GiB free in /dev/shm, {whose} takes {wanted / GIB:.1f}"
    row = Finding(check="shared memory", node=facts["host"], found=found)
    return row.unless(have >= wanted, cure)


def _storage(facts: Facts) -> Iterator[Finding]:
    found = facts["storage"]
    if "error" in found:
        cure = "give --storage a place that every node can write, and its credentials to the nodes"
        row = Finding(check="storage", node=facts["host"], found=found["error"])
        yield row.unless(False, cure)
    elif found:
        speed = [found[name] / 2**20 for name in ("write_bytes_per_s", "read_bytes_per_s")]
        row = Finding(
            check="storage",
            node=facts["host"],
            found=f"writes in {1e3 * found['latency_s']:.0f} ms, "
            f"{speed[0]:.0f} MiB/s, reads {speed[1]:.0f} MiB/s",
        )
        yield row.unless(found["latency_s"] <= SLOW_LATENCY_S, "use a storage in the nodes' region")


def _tracking(facts: Facts) -> Finding:
    error = facts["tracking"]
    if error is None:
        found = "no server is named: each storage has a file of its own"
        return Finding(check="tracking", node=facts["host"], found=found)
    cure = (
        "set MLFLOW_TRACKING_URI to a server that every node reaches, and its credentials: no run "
        "starts without, and workers that do not reach it leave points for `unite mlflow push`"
    )
    found = error or "answers, credentials accepted"
    return Finding(check="tracking", node=facts["host"], found=found).unless(not error, cure)
