"""Connection to Ray: environment, address, runtime environment, and what the cluster has.

Inside a Ray job the driver joins that job's cluster. Elsewhere a private one is started on this
machine, unless RAY_ADDRESS names a cluster (`RAY_ADDRESS=auto` means the one running here).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unite import logs, terminal
from unite.cluster import output
from unite.cluster.address import (
    AddressError,
    advice,
    check_address,
    named_address,
    too_late,
)
from unite.cluster.head import watch_head
from unite.network import (
    DEADLINE_S,
    DeadlineError,
    answers,
    holds_password,
    spare_loopback,
    within,
)
from unite.storage import Store
from unite.words import count

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

PACKAGE_ROOT = Path(__file__).resolve().parents[2]
REPOSITORY = PACKAGE_ROOT.parent

# Set before Ray is imported; a user's own value wins.
ENVIRONMENT = {
    # The second-generation parquet reader starts an actor per execution: seconds per epoch.
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    # Train's controller looks at its workers this often; it bounds the end of a fit.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    # How often Train looks for nodes that drain: of 30 seconds' notice, Ray's own 5 are many.
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "1",
    # A process that is stopped or swapped out answers nothing: Ray's own limit is ten minutes.
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "180",
    # How often Train asks anew for workers that did not start; `fit` limits how many times.
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "60",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    # Ray's workers are nice by default, so anything else on a laptop would starve training.
    "RAY_worker_niceness": "0",
    # Threads of one operation wait for each other: one that sleeps at once must be woken by the
    # kernel, one that spins for long starves its neighbours on a busy machine. These spin for
    # microseconds (benchmarks/barriers.py). GNU's OpenMP, of torch's Linux wheels, reads the count,
    # and obeys it in a process of several pools only where the policy is active; LLVM's knows none.
    "OMP_WAIT_POLICY": "ACTIVE" if sys.platform == "linux" else "PASSIVE",
    "GOMP_SPINCOUNT": "1000",
    # Keep freed tensors: glibc would hand large ones back and get zeroed pages for each operation.
    "MALLOC_MMAP_THRESHOLD_": "1073741824",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
}
WORKER_ENVIRONMENT = (
    "RAY_DATA_USE_DATASOURCE_V2",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TRIM_THRESHOLD_",
)
# Settings that workers need and that are no secrets: those must be in the nodes' environment.
FORWARDED = (
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_DEFAULT_REGION",
    "AWS_EC2_METADATA_DISABLED",
    "MLFLOW_TRACKING_URI",
    "UNITE_COMPILE_CACHE",
    "UNITE_STORAGE",
    "UNITE_WEIGHTS",
)
OBJECT_STORE_BYTES = 1 * 2**30
Node = Mapping[str, float]
"""CPU and GPU of one machine."""
KINDS = ("CPU", "GPU")
ANSWER_S = 0.5
"""Seconds in which a node takes a connection."""


class CapacityError(RuntimeError):
    """The cluster cannot be joined, or cannot give the resources that are asked of it."""


def in_job() -> bool:
    """True if this process is the driver of a submitted Ray job."""
    return "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ


def is_private() -> bool:
    """True if `connect` starts a cluster of its own on this machine."""
    return not in_job() and not named_address()


def prepare_environment() -> None:
    """Set the variables that Ray and arithmetic libraries read when loaded; call it before them."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    spare_loopback()


def connect(**overrides: Any) -> float:
    """Join or start Ray once; later calls do nothing. `overrides` go to ray.init (tests).

    Returns the seconds that it took. CapacityError when Ray does not start or cannot be joined.
    """
    prepare_environment()
    import ray

    if ray.is_initialized():
        return 0.0
    began = time.monotonic()
    terminal.divert()
    starts = is_private()
    doing = "starting Ray on this machine" if starts else "joining the Ray cluster"
    terminal.phase(f"{doing}; Ray's own messages are in {logs.log_file()}")
    for name in ("ray.data", "ray.train", "ray.tune"):
        logging.getLogger(name).setLevel(logging.WARNING)
    settings: dict[str, Any] = {"runtime_env": runtime_env(), "log_to_driver": True}
    if starts:
        settings |= {
            "address": "local",
            "include_dashboard": True,
            "object_store_memory": OBJECT_STORE_BYTES,
        }
    settings["logging_level"] = logging.WARNING
    settings |= overrides
    try:
        if starts or in_job():
            with own_sigterm():
                ray.init(**settings)
        else:
            check_address(named_address())
            within(lambda: ray.init(**settings), DEADLINE_S, too_late(named_address()))
    except (AddressError, DeadlineError) as error:
        raise CapacityError(str(error)) from error
    except Exception as error:  # Ray raises bare exceptions
        raise CapacityError(f"Ray did not start or could not be joined: {advice(error)}") from error
    output.listen()
    if starts:
        watch_head()
    terminal.phase(f"Ray {'started' if starts else 'joined'}: {describe_size()}")
    return time.monotonic() - began


@contextmanager
def own_sigterm() -> Iterator[None]:
    """Context in which Ray puts its own handler in the place of SIGTERM's; ours comes back.

    Ray's ends the process from wherever it is, with nothing said of what is kept.
    """
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if callable(before) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def runtime_env() -> dict[str, Any]:
    """Environment in which workers import unite, installed or not, with non-secret settings.

    Ray's dashboard shows it: a URL with a password in it stays here.
    """
    names = [name for name in (*WORKER_ENVIRONMENT, *FORWARDED) if name in os.environ]
    env_vars = {n: os.environ[n] for n in names if not holds_password(os.environ[n])}
    if weights := env_vars.get("UNITE_WEIGHTS"):  # may be relative to this process's folder
        env_vars["UNITE_WEIGHTS"] = Store.open(weights).uri
    hook = {"worker_process_setup_hook": output.WORKER_HOOK}
    if in_job():
        # Relative to the job's unpacked working_dir on each node.
        return {"env_vars": env_vars | {"PYTHONPATH": "platform"}, **hook}
    if named_address():
        uploaded = {"working_dir": str(REPOSITORY)} if (REPOSITORY / "platform").is_dir() else {}
        return {"env_vars": env_vars | {"PYTHONPATH": "platform"}, **hook, **uploaded}
    paths = [str(PACKAGE_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"env_vars": env_vars | {"PYTHONPATH": os.pathsep.join(paths)}, **hook}


def nodes(
    *, free: bool = False, ending: PlacementGroup | None = None, answering: bool = False
) -> list[Node]:
    """Resources of each node of the joined cluster that lives and does not drain; all of them, or
    what nobody holds but the placement group that is `ending`.

    With `answering` each is asked: the cluster learns of a lost one a quarter of a minute later.
    """
    import ray
    from ray._private.state import state

    # Ray has no public way to these; the pin on one Ray version is what makes it safe.
    draining = state.get_draining_nodes()
    left = state.available_resources_per_node() if free else {}
    own = _held(ending) if ending else {}
    found = []
    for node in ray.nodes():
        name = node["NodeID"]
        if node["Alive"] and name not in draining and (not answering or _answers(node)):
            parts = [left.get(name, {}), *own.get(name, ())] if free else [node["Resources"]]
            found.append({kind: sum(part.get(kind, 0.0) for part in parts) for kind in KINDS})
    return found


def _answers(node: Mapping[str, Any]) -> bool:
    place = node["NodeManagerAddress"], node["NodeManagerPort"]
    return not answers(*place, patience_s=ANSWER_S)


def _held(group: PlacementGroup) -> dict[str, list[Node]]:
    """Node -> bundles of a placement group on it; none of one that was removed."""
    from ray.util import placement_group_table

    table = placement_group_table(group)
    held: dict[str, list[Node]] = {}
    if table.get("state") in ("CREATED", "RESCHEDULING"):  # the latter has lost a node
        for number, node in table["bundles_to_node_id"].items():
            held.setdefault(node, []).append(table["bundles"][number])
    return held


def describe_cluster() -> dict[str, float]:
    """Total CPUs, GPUs and nodes of the joined cluster."""
    have = nodes()
    totals = {kind: sum(node[kind] for node in have) for kind in ("CPU", "GPU")}
    return {**totals, "nodes": float(len(have))}


def describe_size() -> str:
    """CPUs, GPUs and nodes of the joined cluster in words."""
    have = describe_cluster()
    words = [count(int(have["CPU"]), "CPU")]
    words += [count(int(have["GPU"]), "GPU")] if have["GPU"] else []
    words += [count(int(have["nodes"]), "node")] if have["nodes"] > 1 else []
    return ", ".join(words)
