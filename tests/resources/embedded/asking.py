"""Nodes of a dev cluster asked with plain sockets: bytes out, bytes back."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

RESET = b"<reset>"
"""Stands at the end of what was received before a reset."""


def say(
    address: str, request: bytes, *, half_close: bool = False, wait_bytes: int = 1 << 30
) -> bytes:
    """Send bytes; return all that comes back, until the end, a reset, or enough."""
    host, _, port = address.rpartition(":")
    reply = b""
    try:
        with socket.create_connection((host, int(port)), timeout=10) as sock:
            sock.sendall(request)
            if half_close:
                with suppress(OSError):  # it is reset already, as the next call says
                    sock.shutdown(socket.SHUT_WR)
            while len(reply) < wait_bytes and (piece := sock.recv(65536)):
                reply += piece
    except ConnectionResetError:
        reply += RESET
    return reply


@dataclass(frozen=True)
class Reply:
    """An HTTP reply, taken apart by hand."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def http(
    address: str,
    method: str,
    path: str,
    body: bytes = b"",
    headers: dict[str, str] | None = None,
) -> Reply:
    fields = {"Content-Length": str(len(body)), **(headers or {})}
    lines = [f"{method} {path} HTTP/1.0", *(f"{k}: {v}" for k, v in fields.items())]
    raw = say(address, "\r\n".join([*lines, "", ""]).encode() + body)
    head, _, rest = raw.partition(b"\r\n\r\n")
    status, *others = head.decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in others if ": " in line)
    return Reply(int(status.split()[1]), dict(pairs), rest)


def get(address: str, path: str, headers: dict[str, str] | None = None) -> Reply:
    return http(address, "GET", path, headers=headers)


def post(address: str, path: str, body: bytes = b"") -> Reply:
    return http(address, "POST", path, body)


def form(address: str, path: str, body: str) -> Reply:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    return http(address, "POST", path, body.encode(), kind)
