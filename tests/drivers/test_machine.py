"""Facts of this machine, as they are."""

import os
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from unite.cluster.resources import reachable_nodes
from unite.drivers import machine
from unite.tracking import Login
from unite.training import timings
from unite.training.memory import gpu_memory


def test_facts_of_this_machine(tmp_path) -> None:
    found = machine.facts(str(tmp_path), "")
    assert found["cpus"] == len(os.sched_getaffinity(0))
    assert found["packages"]["torch"] and found["packages"]["torch"] != "missing"
    assert found["memory"] > 2**28 and found["storage"]["latency_s"] >= 0
    assert list(tmp_path.iterdir()) == []
    assert "error" not in machine.storage_facts(str(tmp_path / "runs"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU that torch can use")
def test_a_gpu_whose_driver_is_too_old_is_no_gpu(monkeypatch) -> None:
    """The driver counts it, and torch can ask it nothing: runs on CPUs go on, the doctor tells."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(RuntimeError):
        torch.cuda.get_device_name(0)
    assert timings.machine.__wrapped__().endswith(timings.count(os.cpu_count(), "core"))
    assert gpu_memory() == 0 and reachable_nodes()[0]["GPU"] == 0
    found = machine.facts("", "")
    assert (found["gpus"], found["driver_gpus"]) == ([], 1)


def test_a_server_that_is_not_there_is_named() -> None:
    error = machine.tracking_error("http://127.0.0.1:9")
    assert error.startswith("127.0.0.1:9 does not answer")


def test_a_database_in_a_folder_of_another_machine_is_named() -> None:
    assert "no folder of this machine" in machine.tracking_error("sqlite:////nowhere/mlflow.db")
    assert machine.tracking_error("") == ""


class LockedServer(BaseHTTPRequestHandler):
    """MLflow's answers to a search of experiments, for who has the password."""

    def do_POST(self) -> None:
        right = self.headers["Authorization"] == "Bearer right"
        body = b"{}" if right else b'{"error_code": "UNAUTHENTICATED", "message": "who are you?"}'
        self.send_response(200 if right else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_: object) -> None:
        """Silence."""


@pytest.fixture
def locked():
    server = HTTPServer(("127.0.0.1", 0), LockedServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_server_must_take_the_credentials_that_the_driver_hands_on(
    locked, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "wrong")
    assert "refuses the credentials" in machine.facts("", locked)["tracking"]
    monkeypatch.delenv("MLFLOW_TRACKING_TOKEN")
    login = Login({"MLFLOW_TRACKING_TOKEN": "right"})
    assert machine.facts("", locked, login)["tracking"] == ""


def test_a_database_without_its_driver_is_no_reachable_one() -> None:
    assert "cannot be used" in machine.tracking_error("mssql+nothing://db/mlflow")
