"""The real client over real HTTP, counted: one request per step, and what is in it."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unite.tracking import RunHandle
from unite.tracking.delivery import Delivery
from unite.tracking.images import encode_image
from unite.tracking.spool import Spool, Target

RUN_ID = "a" * 32
RUN = {
    "run": {
        "info": {
            "run_id": RUN_ID,
            "experiment_id": "1",
            "status": "RUNNING",
            "artifact_uri": f"mlflow-artifacts:/1/{RUN_ID}/artifacts",
        },
        "data": {"metrics": [{"key": "lr", "value": 0.1, "timestamp": 1, "step": 8}]},
    }
}


class Recorder(ThreadingHTTPServer):
    """Answers like an MLflow server that has one run, and remembers the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.requests: list[tuple[str, str, bytes]] = []
        self.status = 200


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, body))
        answer = json.dumps(RUN if "runs/get" in self.path else {"files": []}).encode()
        self.send_response(self.server.status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_POST = do_PUT = do_GET

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def server():
    server = Recorder()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def delivery(tmp_path, server, gradient, monkeypatch) -> Delivery:
    for name in ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT"):
        monkeypatch.delenv(name, raising=False)
    spool = Spool(tmp_path)
    spool.aim(Target(RunHandle(f"http://127.0.0.1:{server.server_address[1]}", RUN_ID)))
    for step in range(600):
        spool.log.append({"lr": 0.1, "grad/norm": 1.0}, step)
    for name, data in encode_image("samples", gradient, 8, 1).items():
        spool.put_file(name, data)
    return Delivery(spool)


def test_a_step_is_one_http_request(server, delivery):
    while delivery.pending():
        before = len(server.requests)
        delivery.step()
        assert len(server.requests) - before <= 1
    batches = [body for method, path, body in server.requests if path.endswith("log-batch")]
    uploads = [path for method, path, _ in server.requests if method == "PUT"]
    assert len(batches) == 2 and len(uploads) == 2
    metrics = [metric for body in batches for metric in json.loads(body)["metrics"]]
    assert sum(metric["key"] == "lr" for metric in metrics) == 600 - 9, "up to 8 it has them"
    assert sum(metric["key"] == "grad/norm" for metric in metrics) == 600
    assert "mlflow.loggedImages" in batches[1].decode()


def test_a_server_error_is_one_request_too(server, delivery):
    server.status = 503
    with pytest.raises(Exception, match="503"):
        delivery.step()
    assert len(server.requests) == 1
