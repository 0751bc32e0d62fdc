"""HTTP requests that add nothing of their own; replies are whole and have a minimum rate.

A session has no redirects, proxies and credentials of the environment. The standard library
accepts a reply that ends in the middle of its headers; here it counts as cut. A read of the body
returns what has arrived and does not wait for a full buffer, so a peer that sends a byte a second
is noticed early.

Held by tests/resources/clients/test_http_wire.py.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from typing import Any, cast

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, ProtocolError, SSLError

from resources.clients.address import NO_MAP, AddressMap, HostPort
from resources.clients.connection import Meter, StallLimit
from resources.clients.tls import Trust


def plain_session(trust: Trust, route: AddressMap = NO_MAP) -> requests.Session:
    """A session that adds nothing to a request and follows no redirect.

    Args:
        trust: the trusted authorities.
        route: the reachable addresses; certificates and Host name the address of the URL.
    """
    session = _Plain()
    session.trust_env = False  # no .netrc, no proxies
    session.verify = trust.verify
    if not trust.verify:
        # The user has chosen this; a warning at every request would not help.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    session.mount("http://", _Plainly(None, route))
    session.mount("https://", _Plainly(trust, route))
    return session


class _Plain(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        # Even with redirects turned off, requests reads a redirect's whole body, and raises on a
        # Location that is not a URL.
        return None


class _Plainly(HTTPAdapter):
    """Connects by our own trust settings and by the address map."""

    def __init__(self, trust: Trust | None, route: AddressMap) -> None:
        self._trust = trust
        self._route = route
        self._made = False
        super().__init__()

    def send(self, *args: Any, **extra: Any) -> requests.Response:
        if not self._made:  # on first use: most sessions never speak https
            self._made = True
            self.poolmanager.pool_classes_by_scheme = _pools(self._route)
            if self._trust is not None:
                self.poolmanager.connection_pool_kw["ssl_context"] = self._trust.for_http()
        return super().send(*args, **extra)

    def cert_verify(self, conn: Any, url: str, verify: Any, cert: Any) -> None:
        """Do nothing: requests would add certifi's authorities to our context."""
        conn.cert_reqs = "CERT_REQUIRED" if verify else "CERT_NONE"


def _pools(route: AddressMap) -> dict[str, type[HTTPConnectionPool]]:
    class Plain(HTTPConnection):
        response_class = _WholeResponse  # pyright: ignore[reportAssignmentType]

        def _new_conn(self) -> socket.socket:
            return _dialled(self, super()._new_conn, route)

    class Encrypted(HTTPSConnection):
        response_class = _WholeResponse  # pyright: ignore[reportAssignmentType]

        def _new_conn(self) -> socket.socket:
            return _dialled(self, super()._new_conn, route)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain  # pyright: ignore[reportAssignmentType]

    class EncryptedPool(HTTPSConnectionPool):
        ConnectionCls = Encrypted  # pyright: ignore[reportAssignmentType]

    return {"http": PlainPool, "https": EncryptedPool}


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


def _dialled(connection: Any, dial: Any, route: AddressMap) -> socket.socket:
    advertised = connection._dns_host, connection.port
    connection._dns_host, connection.port = route.reach(HostPort(*advertised))
    try:
        return dial()
    finally:
        connection._dns_host, connection.port = advertised


CHUNK_BYTES = 64 * 1024


def pieces(response: requests.Response, stall_limit: StallLimit) -> Iterator[bytes]:
    """Yield the body, never an empty piece.

    Raises:
        requests.RequestException: the body breaks off.
        PeerTooSlow: the rate is below the minimum; the caller adds the address.
    """
    meter, answering = Meter(stall_limit), False
    while True:
        before = time.monotonic()
        piece = _next(response)
        if answering:
            meter.add(time.monotonic() - before, len(piece))
        answering = True
        if not piece:
            return
        yield piece


def _next(response: requests.Response) -> bytes:
    try:
        return response.raw.read1(CHUNK_BYTES, decode_content=False)
    except ProtocolError as error:
        raise requests.exceptions.ChunkedEncodingError(error) from None
    except SSLError as error:
        raise requests.exceptions.SSLError(error) from None
    except HTTPError as error:
        raise requests.exceptions.ConnectionError(error) from None
