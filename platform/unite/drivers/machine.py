"""Facts of one machine that a run depends on: collected on every node, by its own process.

No Ray here, and nothing heavy before a fact is asked for.
"""

from __future__ import annotations

import os
import platform
import shutil
import time
import uuid
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from urllib.parse import urlsplit

from unite.config.schema import TrackingConfig
from unite.entry import code_digest
from unite.network import answers
from unite.storage import StorageError, Store, database_path
from unite.tracking import Login, TrackingError, check, resolve_uri

PROBE_BYTES = 8 * 2**20
"""Size of the file that measures a storage."""
PACKAGES = ("ray", "torch", "pyarrow", "mlflow", "boto3")

Facts = dict[str, Any]
"""Plain data of one machine, as `facts` makes it: it travels between processes and into JSON."""


def facts(storage: str, tracking: str, login: Login | None = None) -> Facts:
    """Everything about this machine; a storage or server that fails is told, not raised.

    `storage` is a folder or s3:// URI, `tracking` MLflow's URI; empty = not looked at. `login` has
    the credentials of another process, as the workers of a run get its driver's.
    """
    if login is not None:
        login.use()
    return {
        "host": platform.node(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "code": code_digest()[:12],
        "cpus": len(os.sched_getaffinity(0)),
        "gpus": _gpus(),
        "driver_gpus": _driver_gpus(),
        "memory": _memory(),
        "shared_memory": _free("/dev/shm"),
        "storage": storage_facts(storage) if storage else {},
        "tracking": tracking_error(tracking) if tracking else None,
    }


def storage_facts(uri: str) -> dict[str, Any]:
    """Seconds to write and read a byte, and bytes per second of a large file; or the error."""
    name = f".doctor-{uuid.uuid4().hex}"
    try:
        store = Store.open(uri)
        is_new = not store.exists()
        latency = _timed(lambda: store.write(name, b"x"))
        written = _timed(lambda: store.write(name, os.urandom(PROBE_BYTES)))
        read = _timed(lambda: store.read(name))
        store.delete(name)
        if is_new and store.is_local:
            os.rmdir(store.path())
    except (StorageError, OSError, ValueError) as error:
        return {"error": str(error)}
    return {
        "latency_s": latency,
        "write_bytes_per_s": PROBE_BYTES / written,
        "read_bytes_per_s": PROBE_BYTES / read,
    }


def tracking_error(uri: str) -> str:
    """Reason why runs cannot use MLflow from this machine; empty when they can, or for no URI."""
    if not uri:
        return ""
    database = database_path(uri)
    if database is not None:
        return "" if database.parent.is_dir() else f"{database.parent} is no folder of this machine"
    place = urlsplit(uri)
    if place.scheme in ("http", "https") and place.hostname:
        port = place.port or (443 if place.scheme == "https" else 80)
        if error := answers(place.hostname, port):
            return f"{place.hostname}:{port} does not answer: {error}"
    try:
        check(resolve_uri(TrackingConfig(uri=uri), "."))
    except TrackingError as error:
        return str(error)
    return ""


def _timed(call: Any) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _gpus() -> list[dict[str, Any]]:
    import torch

    from unite.training.memory import usable_gpus

    found = [torch.cuda.get_device_properties(i) for i in range(usable_gpus())]
    return [{"name": each.name, "memory": each.total_memory} for each in found]


def _driver_gpus() -> int:
    """GPUs that the driver counts, those that torch cannot use too."""
    import torch

    return torch.cuda.device_count()


def _memory() -> int:
    from unite.training.memory import machine_memory

    return machine_memory()


def _free(folder: str) -> int:
    """Bytes free in a folder's file system; 0 where there is none."""
    return shutil.disk_usage(folder).free if os.path.isdir(folder) else 0
