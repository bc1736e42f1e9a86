"""Metadata services of clouds, faked on loopback as AWS and GCP document them."""

from __future__ import annotations

import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from unite.drivers import metadata
from unite.drivers.metadata import Aws, Gcp, MetadataError, find_cloud

ACTION = "/latest/meta-data/spot/instance-action"
PREEMPTED = "/computeMetadata/v1/instance/preempted"


class Service:
    """A metadata service; `answers` maps a path to its text, what is absent answers 404."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.token = "first"
        self.asked: list[str] = []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_) -> None:
                """Silence."""

            def do_PUT(self) -> None:
                lives = self.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
                right = self.path == "/latest/api/token" and lives
                service.asked.append("token")
                self.answer(200 if right else 400, service.token)

            def do_GET(self) -> None:
                service.asked.append(self.path)
                if self.path.startswith("/latest"):
                    allowed = self.headers["X-aws-ec2-metadata-token"] == service.token
                else:
                    allowed = self.headers["Metadata-Flavor"] == "Google"
                if not allowed:
                    self.answer(401, "")
                elif self.path in service.answers:
                    self.answer(200, service.answers[self.path])
                else:
                    self.answer(404, "")

            def answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def service(monkeypatch):
    """Both clouds' services, at the places that their own tools would look at."""
    service = Service()
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://{service.host}/")
    monkeypatch.setenv("GCE_METADATA_HOST", service.host)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # which must not be asked
    yield service
    service.server.shutdown()
    service.server.server_close()


def test_aws_tells_nothing_and_then_the_time(service):
    aws = Aws()
    assert aws.ends_at() is None
    service.answers[ACTION] = '{"action": "terminate", "time": "2017-09-18T08:22:00Z"}'
    assert aws.ends_at() == 1505722920
    assert service.asked.count("token") == 1


def test_an_expired_token_is_renewed(service):
    aws = Aws()
    aws.ends_at()
    service.token = "second"
    service.answers[ACTION] = '{"action": "stop", "time": "2017-09-18T08:22:00Z"}'
    assert aws.ends_at() == 1505722920
    assert service.asked.count("token") == 2


@pytest.mark.parametrize("text", ["soon", '{"action": "stop"}', '{"time": 3}', "[]"])
def test_a_notice_of_aws_that_is_not_understood_is_an_error(service, text):
    service.answers[ACTION] = text
    with pytest.raises(MetadataError, match="AWS's notice is not understood"):
        Aws().ends_at()


def test_gcp_gives_half_a_minute_from_the_flag_on(service, turned_clock):
    now = 1000.0
    turned_clock(metadata, time=lambda: now)
    gcp = Gcp()
    service.answers[PREEMPTED] = "FALSE"
    assert gcp.ends_at() is None
    service.answers[PREEMPTED] = "TRUE\n"
    assert gcp.ends_at() == 1030.0
    now = 1010.0
    assert gcp.ends_at() == 1030.0


def test_an_answer_that_is_no_http_is_silence(monkeypatch):
    """As of a service that is just ending: the agent asks on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            there, _ = listener.accept()
            there.recv(10_000)
            there.sendall(b"garbage\r\n\r\n")
            there.close()

        threading.Thread(target=answer, daemon=True).start()
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        monkeypatch.setenv("GCE_METADATA_HOST", host)
        with pytest.raises(MetadataError, match=f"{host}.* does not answer: .*garbage"):
            Gcp().ends_at()


def test_what_gcp_never_says_is_an_error(service):
    with pytest.raises(MetadataError, match="TRUE or FALSE"):
        Gcp().ends_at()


def test_the_cloud_that_answers_is_found(service, monkeypatch):
    assert find_cloud("auto").name == "AWS"
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:9")
    service.answers[PREEMPTED] = "FALSE"
    assert find_cloud("auto").name == "GCP"
    with pytest.raises(MetadataError, match="127.0.0.1:9/latest/api/token does not answer"):
        find_cloud("aws")
    monkeypatch.setenv("GCE_METADATA_HOST", "127.0.0.1:9")
    with pytest.raises(MetadataError, match="AWS: .*GCP: .*run this on a spot machine"):
        find_cloud("auto")
