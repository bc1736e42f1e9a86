"""`ray job submit --working-dir . -- python jobs/train.py`, as typed, with unite not installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.request
import venv
from pathlib import Path

import pytest

from unite.checkpoints.store import committed
from unite.storage import Store


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def bare_python(tmp_path: Path) -> Path:
    """A Python that has every dependency and no unite: added folders' .pth files are not read."""
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    site = next((tmp_path / "bare" / "lib").glob("python*/site-packages"))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return tmp_path / "bare" / "bin"


@pytest.fixture
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
        f"--object-store-memory={512 * 2**20}",
    ]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(f"{address}/api/version", process)
    wait_for_agent(environment)
    yield environment
    process.terminate()
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


@pytest.mark.ray
@pytest.mark.fault
def test_the_readme_command_trains_on_a_running_cluster(root, tmp_path, head):
    bare = subprocess.run(["python", "-c", "import unite"], env=head, capture_output=True)
    assert bare.returncode != 0, "unite must not be importable there"
    environment = head | {"UNITE_STORAGE": str(tmp_path / "runs")}
    command = [
        *("python", "-m", "ray.scripts.scripts", "job", "submit", "--working-dir", ".", "--"),
        *("python", "jobs/train.py", "smoke", "--storage", str(tmp_path / "runs")),
    ]
    done = subprocess.run(
        command, cwd=root, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = next(name for name in os.listdir(tmp_path / "runs") if name.startswith("smoke"))
    assert committed(Store.open(tmp_path / "runs" / run))
    assert "dB PSNR" in done.stdout
    assert sys.executable not in done.stdout
