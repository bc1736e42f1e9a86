"""Objects on S3: whole or not at all, conditional, and given up in time."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from unite import objects
from unite.objects import ConflictError, is_away, read_tagged, upload, write_if
from unite.storage import Store


@pytest.mark.parametrize("size", [0, 10, 6 * 2**20, 17 * 2**20])
def test_pieces_come_back_as_one_object(s3, monkeypatch, size):
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 2**20)
    data = bytes(range(256)) * (size // 256 + 1)
    pieces = (data[i : min(i + 1_000_003, size)] for i in range(0, size, 1_000_003))
    upload(f"{s3}/x", pieces)
    assert read_tagged(f"{s3}/x")[0] == data[:size]


@pytest.mark.parametrize("size", [10, 17 * 2**20])
def test_an_upload_that_fails_leaves_what_was_there(s3, monkeypatch, size):
    monkeypatch.setattr(objects, "PART_BYTES", 5 * 2**20)
    upload(f"{s3}/x", [b"before"])

    def pieces():
        for start in range(0, size, 2**20):
            yield bytes(min(2**20, size - start))
        raise MemoryError("at the very end")

    with pytest.raises(MemoryError):
        upload(f"{s3}/x", pieces())
    assert read_tagged(f"{s3}/x")[0] == b"before"


def test_of_two_conditional_writes_one_succeeds(s3):
    tag = write_if(f"{s3}/x", b"1", None)
    with pytest.raises(ConflictError):
        write_if(f"{s3}/x", b"2", None)
    second = write_if(f"{s3}/x", b"2", tag)
    with pytest.raises(ConflictError):
        write_if(f"{s3}/x", b"3", tag)
    assert read_tagged(f"{s3}/x") == (b"2", second)
    assert read_tagged(f"{s3}/y") is None


def test_errors_of_the_store_are_os_errors(s3, monkeypatch):
    with pytest.raises(OSError, match="NoSuchBucket"):
        write_if("s3://no-such-bucket-at-all/x", b"", None)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(OSError, match="Could not connect"):
        upload(f"{s3}/x", [b"1"])


class Gateway(BaseHTTPRequestHandler):
    """What stands before a store, and answers everything in its place."""

    status, body = 500, b""
    protocol_version = "HTTP/1.1"  # which tells a client at once to go on with its data

    def log_message(self, *_):
        pass

    def answer(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(self.body)

    do_GET = do_PUT = do_POST = do_HEAD = answer


@pytest.fixture
def gateway(s3, monkeypatch):
    """The class of the answers of a gateway, to which the environment points."""
    monkeypatch.setattr(objects, "ATTEMPTS", 1)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    yield Gateway
    server.shutdown()
    server.server_close()


def of_s3(code: str) -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()


ANSWERS = [
    (503, b"<html>Service Temporarily Unavailable</html>", True),
    (502, b"<html>Bad Gateway</html>", True),
    (504, b"", True),
    (500, b"", True),
    (429, b"<html>Too many</html>", True),
    (503, of_s3("SlowDown"), True),
    (503, of_s3("XMinioServerNotInitialized"), True),
    (400, of_s3("RequestTimeout"), True),
    (501, of_s3("NotImplemented"), False),  # of a store without conditional writes
    (507, of_s3("XMinioStorageFull"), False),
    (403, of_s3("AccessDenied"), False),
    (400, of_s3("ExpiredToken"), False),
    (403, of_s3("RequestTimeTooSkewed"), False),
]


def test_a_store_that_is_away_is_known_whatever_answers_for_it(gateway):
    """Of a load balancer without a backend, boto3's error holds no word of S3."""
    calls = {
        "read": lambda: read_tagged("s3://b/x"),
        "lock": lambda: write_if("s3://b/x", b"1", None),
        "upload": lambda: upload("s3://b/x", [b"1"]),
        "list": lambda: Store("s3://b").list(),
        "look": lambda: Store("s3://b").exists("x"),
    }
    for gateway.status, gateway.body, away in ANSWERS:
        for name, call in calls.items():
            if name == "look" and gateway.status == 400:
                continue  # of a HEAD, the status is all that there is
            with pytest.raises(OSError) as caught:
                call()
            assert is_away(caught.value) == away, (name, caught.value)
