"""An S3 server on loopback, and a proxy before it that spoils answers when told to.

For drills and tests: the server is moto's, which keeps objects in memory.
"""

from __future__ import annotations

import http.client
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from unite.words import brings

Mode = Literal["", "refuse", "hang"]


class _Quiet(ThreadingHTTPServer):
    """Server that tells nothing of clients that go away in the middle of a request."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Nothing is printed: a drill is about what the client says."""


class Stumbling:
    """Forwards requests to `upstream`; `mode` says how the next ones end.

    "refuse" closes the connection without an answer, "hang" takes the request and never answers.
    """

    def __init__(self, upstream: str) -> None:
        """Listen on a free port of loopback, before the server at the URL `upstream`."""
        self.upstream = urlsplit(upstream).netloc
        self.mode: Mode = ""
        self.spoilt = 0
        self.server = _Quiet(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Address of the proxy."""
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> Stumbling:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Answer what hangs, and end."""
        self.mode = ""
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

            def answer(self) -> None:
                """Pass the request on, or spoil it as the mode says."""
                if outer.mode:
                    outer.spoilt += 1
                    while outer.mode == "hang":
                        time.sleep(0.1)
                    self.close_connection = True
                    return
                body = self._body()
                upstream = http.client.HTTPConnection(outer.upstream, timeout=60)
                headers = {
                    name: value
                    for name, value in self.headers.items()
                    if name.lower() not in ("transfer-encoding", "connection", "expect")
                }
                upstream.request(self.command, self.path, body, headers)
                response = upstream.getresponse()
                data = response.read()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                head = self.command == "HEAD"
                length = response.getheader("Content-Length") if head else str(len(data))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                if not head:
                    self.wfile.write(data)

            def _body(self) -> bytes:
                if "chunked" not in (self.headers.get("Transfer-Encoding") or ""):
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer

        return Handler


@contextmanager
def local_s3() -> Iterator[tuple[str, str]]:
    """Context with an S3 server on loopback: the URI of an empty bucket, and the server's URL.

    ModuleNotFoundError names the package where moto is not installed.
    """
    try:
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise ModuleNotFoundError(
            "the storage drill starts an S3 server of its own and needs the package moto, which is "
            f"not installed: {brings('test')}"
        ) from error
    import boto3

    logging.getLogger("werkzeug").setLevel(logging.ERROR)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "drill", "aws_secret_access_key": "drill"}
    try:
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", **keys)
        client.create_bucket(Bucket="drill")
        yield "s3://drill", url
    finally:
        server.stop()
