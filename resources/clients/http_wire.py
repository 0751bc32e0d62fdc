"""HTTP requests that add nothing of their own; replies are whole and have a minimum rate.

A session has no redirects, proxies and credentials of the environment. The standard library
accepts a reply that ends in the middle of its headers, or before its Content-Length; here both
count as cut. A read of the body returns what has arrived and does not wait for a full buffer, so a
peer that sends a byte a second is noticed early.

It is built on the standard library: `requests` takes longer to load than a short run takes.

Held by tests/resources/clients/test_http_wire.py and test_http_session.py.
"""

from __future__ import annotations

import http.client
import select
import socket
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Literal, cast
from urllib.parse import quote, urlencode

from msgspec import Struct

from resources.clients.address import NO_MAP, AddressMap, HostPort
from resources.clients.connection import Meter, StallLimit
from resources.clients.tls import Trust

CHUNK_BYTES = 64 * 1024
_OF_A_PATH = "!$&'()*+,/:;=@[]~%"
"""Characters that a path keeps; `%` since the user may have escaped some."""

Stage = Literal["connecting", "asking", "answering"]


class HTTPFailure(Exception):
    """A request without a complete reply; it holds no URL, and `cause` is of the standard library.

    Attributes:
        stage: connecting: certainly no byte was sent; asking: the headers of the reply have not
            arrived; answering: its body ended early.
        cause: the exception; its text may have secrets.
    """

    def __init__(self, stage: Stage, cause: Exception) -> None:
        super().__init__(type(cause).__name__)
        self.stage: Stage = stage
        self.cause = cause


class HTTPRequest(Struct, frozen=True):
    """A request to one server; its `repr` would show the headers' secrets, so it has none."""

    method: str
    scheme: str
    address: HostPort
    path: str
    params: Mapping[str, str] | None = None
    headers: Mapping[str, str] = {}
    body: bytes | None = None
    connect_timeout_s: float = 10.0
    timeout_s: float = 30.0
    """How long the server may be silent."""

    def __repr__(self) -> str:
        return f"HTTPRequest({self.method} {self.address})"

    @property
    def target(self) -> str:
        """Path and query, escaped."""
        path = quote(self.path, safe=_OF_A_PATH) or "/"
        return f"{path}?{urlencode(self.params)}" if self.params else path


class HTTPSession:
    """Sends requests, and keeps the connections that complete replies leave open.

    It adds no credentials, and follows no redirect. Not safe to share between threads.

    Args:
        trust: the trusted authorities.
        route: the reachable addresses; certificates and Host name the address of the request.
    """

    def __init__(self, trust: Trust, route: AddressMap = NO_MAP) -> None:
        self._trust = trust
        self._route = route
        self._idle: dict[tuple[str, HostPort], list[_Connection]] = {}

    @contextmanager
    def open(self, request: HTTPRequest) -> Generator[HTTPAnswer]:
        """Send a request; the answer can be read until the block ends.

        Raises:
            HTTPFailure: there is no connection, or it breaks; also inside the block.
            UsageError: a file of the TLS settings cannot be read.
        """
        kept = self._idle.setdefault((request.scheme, request.address), [])
        connection = _alive(kept) or self._connected(request)
        response: http.client.HTTPResponse | None = None
        try:
            response = _asked(connection, request)
            yield HTTPAnswer(response)
        finally:
            if response is not None and response.isclosed() and connection.sock is not None:
                kept.append(connection)
            else:
                if response is not None:
                    response.close()
                connection.close()

    def close(self) -> None:
        """Close the connections that are kept."""
        for kept in self._idle.values():
            while kept:
                kept.pop().close()

    def _connected(self, request: HTTPRequest) -> _Connection:
        context = self._trust.for_http() if request.scheme == "https" else None
        host, port = self._route.reach(request.address)
        try:
            name = _ascii(request.address.host.partition("%")[0])
            sock = socket.create_connection((host, port), timeout=request.connect_timeout_s)
        except (OSError, UnicodeError) as error:
            raise HTTPFailure("connecting", error) from None
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                sock = context.wrap_socket(sock, server_hostname=name)
            return _Connection(sock, request.scheme, name, request.address.port)
        except (OSError, ValueError, http.client.HTTPException) as error:
            sock.close()
            raise HTTPFailure("asking", error) from None
        except BaseException:
            sock.close()
            raise


class HTTPAnswer:
    """The status and the headers of a reply, and its body as it arrives."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        named: dict[str, str] = {}
        for name, value in response.headers.items():
            name = name.title()
            named[name] = f"{named[name]}, {value}" if name in named else value
        self.headers: Mapping[str, str] = named
        """Names are in Title-Case."""
        self._left = None if response.chunked else response.length
        if self._left == 0:
            response.close()

    def pieces(self, stall_limit: StallLimit) -> Iterator[bytes]:
        """Yield the body, never an empty piece.

        Raises:
            HTTPFailure: the body breaks off.
            PeerTooSlow: the rate is below the minimum; the caller adds the address.
        """
        meter, answering = Meter(stall_limit), False
        while True:
            before = time.monotonic()
            piece = self._next()
            if answering:
                meter.add(time.monotonic() - before, len(piece))
            answering = True
            if not piece:
                return
            yield piece

    def _next(self) -> bytes:
        left = self._left
        if left == 0:
            return b""
        try:
            piece = self._response.read1(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left))
            if left is None:
                return piece
            if not piece:
                raise http.client.IncompleteRead(b"", left)
        except (OSError, http.client.HTTPException) as error:
            raise HTTPFailure("answering", error) from None
        self._left = left - len(piece)
        if self._left == 0:  # by itself it would wait for bytes behind the body
            self._response.close()
        return piece


class _WholeResponse(http.client.HTTPResponse):
    """A reply whose headers must end with an empty line."""

    def begin(self) -> None:
        whole = self.fp
        head = cast("Any", _Lines(whole))
        self.fp = head
        try:
            super().begin()
        finally:
            if self.fp is head:  # else the file is closed
                self.fp = whole
        if head.last not in (b"\r\n", b"\n"):
            raise http.client.RemoteDisconnected("the reply ended in its headers")


class _Lines:
    """Passes lines on and keeps the last one."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.last = b""

    def readline(self, *limit: int) -> bytes:
        self.last = self._stream.readline(*limit)
        return self.last

    def close(self) -> None:
        self._stream.close()


class _Connection(http.client.HTTPConnection):
    """A connected socket; it never connects again by itself."""

    response_class = _WholeResponse
    auto_open = 0

    def __init__(self, sock: socket.socket, scheme: str, host: str, port: int) -> None:
        super().__init__(host, port)
        self.default_port = 443 if scheme == "https" else 80  # Host has no default port
        self.sock = sock
        self._parts: list[bytes] = []

    def send(self, data: Any) -> None:
        """Keep a part of a request, its head or its body, for `send_kept`."""
        self._parts.append(data)

    def send_kept(self) -> None:
        """Send a request at once: one that is refused by its head meets no closed connection."""
        parts, self._parts = self._parts, []
        super().send(b"".join(parts))

    @property
    def is_dropped(self) -> bool:
        """Whether the peer has closed it, or sent something without a request."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return bool(poll.poll(0))


def _alive(kept: list[_Connection]) -> _Connection | None:
    while kept:
        connection = kept.pop()
        if not connection.is_dropped:
            return connection
        connection.close()
    return None


def _asked(connection: _Connection, request: HTTPRequest) -> http.client.HTTPResponse:
    try:
        connection.sock.settimeout(request.timeout_s)
        # A server may refuse a request before it has read all of it.
        with suppress(BrokenPipeError):
            connection.request(request.method, request.target, request.body, dict(request.headers))
            connection.send_kept()
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise HTTPFailure("asking", error) from None


def _ascii(host: str) -> str:
    return host if host.isascii() else host.encode("idna").decode()
