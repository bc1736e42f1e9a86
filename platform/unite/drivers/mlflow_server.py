"""An MLflow server on loopback for drills and measurements: started, killed, started again."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil

from unite.network import DeadlineError, free_port

BUSY = {
    "MLFLOW_SQLALCHEMYSTORE_POOL_SIZE": "41",
    "MLFLOW_SQLALCHEMYSTORE_MAX_OVERFLOW": "1",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
}
"""Variables of a server: more connections for each of its processes than the 40 threads that serve.
A log-batch holds one and asks for another: with MLflow's own fifteen, fifteen at once wait for each
other until they fail after 30 s. Its job runners, seven processes, have no work from us."""
PATIENT = "--timeout-worker-healthcheck 120"
"""Option of a server: a process that does not answer its parent for five seconds, as a busy one
may, is not killed with all that it was asked for."""
START_S = 300.0
"""Longest start, in seconds: the first one makes the tables."""


class Server:
    """`mlflow server` in processes of its own; its data stay over a kill and a new start."""

    def __init__(self, folder: Path, *, database: str = "", workers: int = 1) -> None:
        """`database` is a SQLAlchemy URI; empty = a sqlite file in the folder."""
        self.folder, self.workers = folder, workers
        self.database = database or f"sqlite:///{folder}/server.db"
        self.log = folder / "server.log"
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """Its address, also after another start."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers; DeadlineError when that takes too long."""
        words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
        words += ["--port", str(self.port), "--backend-store-uri", self.database]
        words += ["--artifacts-destination", str(self.folder / "artifacts")]
        words += ["--workers", str(self.workers), "--uvicorn-opts", PATIENT]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        environment |= BUSY
        with self.log.open("ab") as file:
            self.process = subprocess.Popen(words, env=environment, stdout=file, stderr=file)
        deadline = time.monotonic() + START_S
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise DeadlineError(f"the MLflow server did not start: see {self.log}")
            time.sleep(0.3)

    def close(self) -> None:
        """Kill it and its workers."""
        if self.process is None:
            return
        with contextlib.suppress(psutil.Error):
            parent = psutil.Process(self.process.pid)
            for each in [parent, *parent.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    each.kill()
        self.process.wait()
        self.process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False
