"""A network with bad days in front of a server of HTTP: some requests fail as those of stores do.

    with HttpProxy("http://127.0.0.1:8333") as proxy:
        proxy.fault = lambda method, path: "lost"
        ...  # ask proxy.endpoint

The request is passed on as it came, so its signature, in which the host's name is, still fits.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self
from urllib.parse import urlsplit

from tests.s3_server import STATUS, Fault

STALL_S = 30.0


class HttpProxy:
    """Listens on a port of its own until the end of the block.

    Attributes:
        endpoint: the URL to ask instead of the server's.
        fault: what to do to a request; it gets the method and the path.
        done: how many of which faults there were.
    """

    def __init__(self, upstream: str) -> None:
        self.fault: Callable[[str, str], Fault] = lambda _method, _path: ""
        self.done: Counter[str] = Counter()
        handler = type("Handler", (_Handler,), {"proxy": self, "upstream": urlsplit(upstream)})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        serve = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        serve.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gave up has closed its end."""


class _Handler(BaseHTTPRequestHandler):
    proxy: HttpProxy
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *_: object) -> None:
        """Say nothing."""

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        fault = self.proxy.fault(self.command, self.path)
        if fault:
            self.proxy.done[fault] += 1
        if fault in ("cut", "stall"):
            time.sleep(STALL_S if fault == "stall" else 0)
            self.close_connection = True
        elif fault in STATUS:
            code = f"<Error><Code>{STATUS[fault]}</Code></Error>".encode()
            self._reply(int(fault) if fault.isdigit() else 403, [], code)
        else:
            self._pass_on(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve

    def _pass_on(self, body: bytes, fault: Fault) -> None:
        upstream = self.upstream  # type: ignore[attr-defined]
        link = http.client.HTTPConnection(upstream.hostname, upstream.port, timeout=60)
        try:
            link.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                link.putheader(name, value)
            link.endheaders(body)
            answer = link.getresponse()
            content = answer.read()
        finally:
            link.close()
        if fault == "lost":
            self.close_connection = True
            return
        headers = [
            (name, value)
            for name, value in answer.getheaders()
            if name.lower() not in ("transfer-encoding", "connection", "date", "server")
        ]
        self._reply(answer.status, headers, content, half=fault == "half")

    def _reply(
        self, status: int, headers: list[tuple[str, str]], body: bytes, *, half: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if status != 204 and not any(name.lower() == "content-length" for name, _ in headers):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if half else body)
        if half:
            self.close_connection = True
