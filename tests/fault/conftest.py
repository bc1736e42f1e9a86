"""A Ray head with a job server, as `ray start --head` makes it, with unite not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sysconfig
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

import psutil
import pytest


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has every dependency and no unite: added folders' .pth files are not read."""
    place = tmp_path_factory.mktemp("bare")
    venv.create(place, with_pip=False, symlinks=True)
    site = next((place / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return place / "bin"


@pytest.fixture(scope="module")
def head(bare_python: Path):
    """A Ray head with a job server, in a short private folder; yields the client's environment."""
    folder = tempfile.mkdtemp(prefix="uj-", dir="/tmp")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "RAY_ADDRESS", "VIRTUAL_ENV")
    }
    address = f"http://127.0.0.1:{(dashboard := free_port())}"
    environment |= {
        "PATH": f"{bare_python}{os.pathsep}{os.environ['PATH']}",
        "RAY_TMPDIR": folder,
        "RAY_API_SERVER_ADDRESS": address,
    }
    command = [
        *("python", "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"),
        *(f"--port={free_port()}", f"--dashboard-port={dashboard}", "--disable-usage-stats"),
        # Another Ray on this machine (the suite's own) has the agent's fixed port already.
        f"--dashboard-agent-listen-port={free_port()}",
        f"--object-store-memory={512 * 2**20}",
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(f"{address}/api/version", process)
        wait_for_agent(environment)
        yield environment
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:  # asked nicely, a head takes half a minute
            member.kill()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(url: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        assert process.poll() is None, "the head ended"
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(0.5)
    raise AssertionError(f"{url} never answered")


def wait_for_agent(environment: dict[str, str]) -> None:
    """The job server answers before the agent that starts jobs is there."""
    command = ["python", "-m", "ray.scripts.scripts", "job", "submit", "--", "true"]
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        if done.returncode == 0:
            return
        assert "No available agent" in done.stderr, done.stderr[-2000:]
        time.sleep(1)
    raise AssertionError("the head has no agent for jobs")
