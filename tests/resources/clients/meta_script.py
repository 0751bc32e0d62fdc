"""Meta nodes that answer from a script, and everything that they can be asked."""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager

import pytest

from resources.clients.auth import Auth
from resources.clients.meta import MetaClient
from resources.model import NodeID
from resources.protocol.commands import DropDatabase, Response
from tests.resources.clients.peer import peer, reset

DROP = DropDatabase("nodb")
APPLIED = Response(index=11).encode()
SECRET = "s3cr3t-pässword"

Answer = Callable[[str, str, bytes], bytes]
"""From method and path, the Authorization header and the body to a whole reply."""


def http(status: int, body: bytes = b"", *heads: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *heads]
    return "\r\n".join([*lines, "Influxdb-Metaindex: 9", "\r\n"]).encode() + body


def redirect(address: str, path: str = "/execute", scheme: str = "http") -> bytes:
    return http(307, b"", f"Location: {scheme}://{address}{path}")


@contextmanager
def meta_node(answer: Answer) -> Generator[str]:
    def script(connection: socket.socket) -> None:
        received = b""
        while b"\r\n\r\n" not in received:
            received += connection.recv(65536)
        head, _, body = received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        named = {name.lower(): value for name, _, value in (x.partition(": ") for x in lines)}
        while len(body) < int(named.get("content-length", "0")):
            body += connection.recv(65536)
        reply = answer(first.rsplit(" ", 1)[0], named.get("authorization", ""), body)
        if reply:
            connection.sendall(reply)
        else:
            reset(connection)

    with peer(script) as address:
        yield address


def always(reply: bytes) -> Answer:
    return lambda _what, _who, _body: reply


LEADS = http(400, b"invalid node ID\n")
"""What the leader says to who asks for a lease under a number that is none."""


def led_by(address: str) -> bytes:
    """What another meta node says to that."""
    return redirect(address, "/lease?name=shardkeeper&nodeid=none")


def client(address: str, auth: Auth | None = None) -> MetaClient:
    return MetaClient(address, timeout_s=5, auth=auth, clock=lambda: 1_700_000_000.0)


ASKS: dict[str, Callable[[MetaClient], object]] = {
    "leader": MetaClient.leader,
    "members": MetaClient.members,
    "snapshot": MetaClient.snapshot,
    "shards": MetaClient.shards,
    "lease": lambda meta: meta.lease("shardkeeper", NodeID(7)),
    "execute": lambda meta: meta.execute(DROP),
}
all_asks = pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
