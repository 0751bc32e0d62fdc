"""Between us and a meta node: whole HTTP requests and replies, which a test may change.

with MetaProxy(cluster.meta[0].http_addr) as proxy:
proxy.reply = lambda request, reply: flipped(reply)
...  # talk to proxy.address
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

FORWARD_WITHIN_S = 60.0


@dataclass(frozen=True)
class Asked:
    """A request, whole."""

    method: str
    path: str
    body: bytes

    @property
    def is_reading(self) -> bool:
        """Whether it asks for the metastore."""
        return self.method == "GET" and self.path.startswith("/?")

    @property
    def is_setting(self) -> bool:
        """Whether it sets the whole metastore (type 17)."""
        return self.method == "POST" and self.body[:2] == b"\x08\x11"


@dataclass(frozen=True)
class Answered:
    """A reply, whole; None instead of one breaks the connection."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def with_body(self, body: bytes) -> Answered:
        return replace(self, body=body)


class MetaProxy:
    """Forwards to `upstream`; its own address is `address`, host:port.

    Attributes:
        request: called before a request is sent on; returns the one to send.
        reply: called with each reply; returns the one to give, or None.
        scans: how many times the metastore was asked for.
    """

    def __init__(self, upstream: str, listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self.upstream = upstream
        self.request: Callable[[Asked], Asked] = lambda asked: asked
        self.reply: Callable[[Asked, Answered], Answered | None] = lambda _, answered: answered
        self.scans = 0
        self._server = _Server(listen, _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self
        host, port = self._server.server_address[:2]
        self.address = f"{host!s}:{port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def pass_on(self, asked: Asked, headers: dict[str, str]) -> Answered | None:
        asked = self.request(asked)
        line = http.client.HTTPConnection(self.upstream, timeout=FORWARD_WITHIN_S)
        with suppress(OSError, http.client.HTTPException):
            try:
                line.request(asked.method, asked.path, asked.body or None, headers)
                got = line.getresponse()
                answered = Answered(got.status, tuple(got.getheaders()), got.read())
            finally:
                line.close()
            if asked.is_reading:
                self.scans += 1
            return self.reply(asked, answered)
        return None


class _Server(ThreadingHTTPServer):
    proxy: MetaProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        dropped = ("host", "connection", "content-length")
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in dropped
        }
        answered = self.server.proxy.pass_on(Asked(self.command, self.path, body), headers)
        self.close_connection = True
        if answered is None:
            return
        self.send_response_only(answered.status)
        for name, value in answered.headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answered.body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(answered.body)

    do_GET = do_POST = _serve

    def log_message(self, format: str, *args: object) -> None:
        """It is not read."""
