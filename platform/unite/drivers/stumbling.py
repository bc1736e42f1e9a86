"""A proxy on loopback that stands before an S3 server and spoils answers when told to."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["", "refuse", "hang"]


class Stumbling:
    """Forwards requests to `upstream`; `mode` says how the next ones end.

    "refuse" closes the connection without an answer, "hang" takes the request and never answers.
    """

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.mode: Mode = ""
        self.spoilt = 0
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

            def answer(self) -> None:
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
