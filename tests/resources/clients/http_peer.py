"""What peers of the HTTP client answer, and everything it can be asked."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from resources.clients.http import InfluxHTTP

CANARY = "s3cr3t/CANARY@é"


def reply(body: object = None, *, status: str = "200 OK", **headers: str) -> bytes:
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, f"Content-Length: {len(raw)}", "", ""])
    return head.encode() + raw


Ask = Callable[[InfluxHTTP], object]
ASKS: dict[str, Ask] = {
    "ping": InfluxHTTP.ping,
    "server_vars": InfluxHTTP.server_vars,
    "query": lambda client: client.query("SHOW DATABASES"),
    "databases": InfluxHTTP.databases,
    "stream": lambda client: list(client.stream("SELECT * FROM m")),
}
every_ask = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
