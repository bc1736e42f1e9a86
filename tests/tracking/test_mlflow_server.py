"""A real MLflow server dies under a run, comes back, and dies for good."""

from __future__ import annotations

import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from unite.config.schema import TrackingConfig
from unite.tracking import describe, finish_run, metric_history, open_tracker, start_run
from unite.tracking.server import connect

pytestmark = [pytest.mark.mlflow_server, pytest.mark.slow, pytest.mark.fault]

PATIENCE_S = 120


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE_S} s for {what}"
        time.sleep(0.1)


def read(url: str) -> bytes:
    """The body at `url`, empty while nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read()
    except OSError:
        return b""


class Server:
    """`mlflow ui` as `describe` says it, on one port of loopback."""

    def __init__(self, database: str, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        program, *command = shlex.split(describe(database))
        assert program == "mlflow"
        self._command = [sys.executable, "-m", "mlflow", *command]
        self._command += ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
        self.uri = f"http://127.0.0.1:{port}"

    def start(self) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},  # 3x faster
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: read(f"{self.uri}/health") == b"OK", "the MLflow server")

    def kill(self) -> None:
        """The server and its workers, which share the process group that it leads."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@pytest.fixture
def server(storage, tmp_path):
    server = Server(f"sqlite:///{storage}/mlflow.db", tmp_path)
    server.start()
    yield server
    server.kill()


def test_an_outage_neither_stops_the_run_nor_loses_anything(
    server, storage, tmp_path, gradient, caplog, pace
):
    handle = start_run(
        TrackingConfig(uri=server.uri, experiment="served"),
        storage=storage,
        name="run",
        params={"flow.steps": 4, "empty": ""},
        config_dict={"flow": {"steps": 4}},
        tags={"recipe": "digits"},
    )
    spool = tmp_path / "spool"
    pace(0.05)
    tracker = open_tracker(handle, spool=spool)
    tracker.log({"lr": 0.1}, 8)
    tracker.image("samples", gradient, 8)
    files = spool / "files"
    wait_until(lambda: metric_history(handle, "lr") == [(8, 0.1)], "the first point")
    wait_until(lambda: not any(p.is_file() for p in files.rglob("*")), "the first image")

    with caplog.at_level(logging.WARNING, "unite"):
        server.kill()
        tracker.log({"lr": 0.2}, 16)
        wait_until(lambda: caplog.records, "the warning")
        tracker.log({"lr": 0.3}, 24)
        tracker.image("samples", gradient, 24)
        server.start()
        tracker.close()
    (warning,) = caplog.records
    assert str(spool / "metrics.jsonl") in warning.message

    assert metric_history(handle, "lr") == [(8, 0.1), (16, 0.2), (24, 0.3)]
    client = connect(server.uri)
    stored = [file.path for file in client.list_artifacts(handle.run_id, "images")]
    assert sorted(name.partition("+timestamp")[0] for name in stored) == [
        *["images/eval~samples+step+24"] * 2,
        *["images/eval~samples+step+8"] * 2,
    ]
    files = {file.path for file in client.list_artifacts(handle.run_id) if not file.is_dir}
    assert files == {"config.json", "samples.png"}
    url = f"{server.uri}/get-artifact?path=config.json&run_uuid={handle.run_id}"
    assert b'"steps": 4' in read(url), "the UI can show the config"
    assert b"<html" in read(server.uri).lower()
    finish_run(handle, "FINISHED")
    assert client.get_run(handle.run_id).info.status == "FINISHED"

    pace(0.05, close_s=0.5)
    late = open_tracker(handle, spool=spool)
    server.kill()
    late.log({"lr": 0.4}, 32)
    late.close()
    assert f"unite mlflow push {spool / 'metrics.jsonl'}" in caplog.text
    finish_run(handle, "FAILED", spool=spool)
    assert "could not be set to FAILED" in caplog.text
