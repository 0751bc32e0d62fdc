"""InfluxHTTP: the HTTP API (8086) of one server: queries, writes, and the server's figures."""

from __future__ import annotations

import base64
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlencode

from msgspec import Struct

from resources.clients.address import NO_MAP, AddressMap
from resources.clients.connection import StallLimit
from resources.clients.cut_again import asked_again
from resources.clients.http_address import HTTP_PORT, http_target
from resources.clients.http_clock import clock_ns
from resources.clients.http_errors import (
    HTTPReply,
    is_broken_off,
    refusal,
    unreachable,
    wants_tls,
)
from resources.clients.http_wire import HTTPAnswer, HTTPFailure, HTTPRequest, HTTPSession
from resources.clients.redaction import redacted
from resources.clients.source_address import MIN_BYTES_PER_S
from resources.clients.tls import Trust, trusting
from resources.clients.tls_probe import probe_tls
from resources.errors import (
    BadReply,
    PeerRefused,
    PeerTooSlow,
    PeerUnreachable,
    UsageError,
)
from resources.protocol.query_results import Series, query_results
from resources.protocol.reply_fields import ErrorInstead
from resources.protocol.server_vars import ServerVars, server_vars

CONNECT_TIMEOUT_S = 10.0
MAX_REPLY_BYTES = 256 * 2**20
"""/debug/vars takes about 2 kB a shard; no expected reply is as big as this."""

PATIENCE = 20
"""How many times `timeout_s` a whole reply may take, at any rate."""

CHUNK_ROWS = 5_000
"""Rows of one series that a server sends at a time."""


class Ping(Struct, frozen=True):
    """The server's version, build and clock."""

    version: str
    build: str
    """OSS or ENT; empty before InfluxDB 1.4."""
    clock_ns: int | None
    """In whole seconds, never ahead of the server's clock; None if the reply has no date."""


class InfluxHTTP:
    """The HTTP client of one server; not safe to share between threads.

    Credentials come from the arguments or from the URL, never from the environment; no request's
    URL, `repr` or error shows them. Proxies of the environment are not used.

    Args:
        address: host:port or an http(s) URL, perhaps with user:password@.
        user: empty: no authentication.
        password: its password.
        timeout_s: how long the server may be silent.
        verify: whether an https certificate must be valid, or a file of authorities to trust.
        trust: the same, with a certificate of our own; wins over `verify`.
        route: the reachable addresses.
        min_bytes_per_s: the minimum rate, once the server answers; see `StallLimit`.

    If the address has no scheme, the client probes for https before the first request, without
    credentials.

    Raises:
        UsageError: the address is malformed, or credentials are given twice.
    """

    def __init__(
        self,
        address: str,
        *,
        user: str = "",
        password: str = "",
        timeout_s: float = 30.0,
        verify: bool | str = True,
        trust: Trust | None = None,
        route: AddressMap = NO_MAP,
        min_bytes_per_s: int = MIN_BYTES_PER_S,
    ) -> None:
        target = http_target(address)
        if target.user and user:
            raise UsageError("credentials are given twice, in the URL and separately")
        self._scheme = target.scheme
        self._address = target.address
        self._path = target.path
        self._user = user or target.user
        self._password = password or target.password
        self._timeout_s = timeout_s
        self._stall_limit = StallLimit(timeout_s, min_bytes_per_s)
        self._trust = trust or trusting(verify)
        self._route = route
        self._label = route.named(target.address)
        self._session = HTTPSession(self._trust, route)

    def __repr__(self) -> str:
        return f"InfluxHTTP({self.base_url!r})"

    @property
    def http_addr(self) -> str:
        return str(self._address)

    @property
    def base_url(self) -> str:
        """The URL without credentials; http until the scheme is known."""
        return f"{self._scheme or 'http'}://{self._address}{self._path}"

    @property
    def scheme(self) -> str:
        """Http or https, as given or as probed.

        Raises:
            PeerUnreachable: the scheme was not given, and no server answers.
        """
        if not self._scheme:
            self._scheme = self._found_scheme()
        return self._scheme

    # --- requests -------------------------------------------------------------------------

    def ping(self) -> Ping:
        """Read version, build and time.

        Raises:
            BadReply: the reply is not InfluxDB 1.x's.
            PeerUnreachable, CredentialsRefused, PeerRefused: the request fails.
        """
        reply = asked_again(lambda: self._request("GET", "/ping"))
        version = reply.headers.get("X-Influxdb-Version", "").removeprefix("v")
        if not version or len(version) > 100 or not version.isprintable():
            raise BadReply(
                f"{self._label}: answers HTTP, but not as InfluxDB does",
                hint=f"is this the address of its HTTP API, port {HTTP_PORT} by default, or does "
                "a proxy hide its headers?",
            )
        build = reply.headers.get("X-Influxdb-Build", "")[:100]
        return Ping(version, build, clock_ns(reply.headers))

    def clock_ns(self) -> int | None:
        """The server's clock, in whole seconds; None if the reply has no date.

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused: the request fails.
        """
        return clock_ns(asked_again(lambda: self._request("GET", "/ping")).headers)

    def server_vars(self, *, activity: bool = True) -> ServerVars:
        """Read /debug/vars; unexpected parts of it are left out.

        Args:
            activity: whether to read counters of writes, too; figures of files alone are faster.

        Raises:
            BadReply: the reply is not JSON, or has no server time.
            PeerUnreachable, CredentialsRefused, PeerRefused: the request fails.
        """
        return asked_again(lambda: self._server_vars(activity=activity))

    def _server_vars(self, *, activity: bool) -> ServerVars:
        with self._open("GET", "/debug/vars") as answer:
            if answer.status >= 300:
                raise refusal(self._label, self._whole(answer), self._shown)
            with self._named():
                return server_vars(
                    self._lines(self._bounded(answer)),
                    fallback_ns=lambda: self._date_ns(answer.headers),
                    activity=activity,
                )

    def query(
        self, q: str, db: str | None = None, *, rp: str | None = None, again: bool = False
    ) -> list[Series]:
        """Run statements of InfluxQL and return the series of all results in order.

        The request is always a POST: access logs do not show its body.

        Args:
            again: whether the statements may be repeated safely; then a cut connection is retried.

        Raises:
            PeerRefused: the server refused the request or one of the statements.
            CredentialsRefused: the server requires other credentials, or more rights.
            BadReply: the reply is malformed, or the server cut it off (max-row-limit).
            PeerUnreachable: no connection, or it broke.
        """
        params = {"epoch": "ns"}
        if db is not None:
            params["db"] = db
        if rp is not None:
            params["rp"] = rp

        def ask() -> HTTPReply:
            return self._request("POST", "/query", params=params, data={"q": q})

        reply = asked_again(ask) if again else ask()
        with self._named():
            return list(query_results(reply.body).series)

    def stream(self, q: str) -> Generator[Series]:
        """Run one SELECT and yield its series as they arrive, long ones in several pieces.

        The server's row limit does not apply, and memory holds one piece at a time.

        Raises:
            WireError: as `query`, also between two pieces.
        """
        params = {"epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK_ROWS)}
        with self._open("POST", "/query", params=params, data={"q": q}) as answer:
            if answer.status >= 300:
                raise refusal(self._label, self._whole(answer), self._shown)
            more = True
            for line in self._lines(self._pieces(answer)):
                with self._named():
                    piece = query_results(line, in_pieces=True)
                more = piece.more
                yield from piece.series
            if more:
                raise self._odd("it ends before its last piece")

    def write(self, lines: bytes, db: str, rp: str) -> None:
        """Write points in line protocol, with times in ns.

        Raises:
            PeerRefused: the server dropped some or all points; its text has the number.
            CredentialsRefused, PeerUnreachable: the request fails.
        """
        params = {"db": db, "rp": rp, "precision": "ns"}
        self._request("POST", "/write", params=params, data=lines)

    def databases(self) -> list[str]:
        """The names of all databases that are visible to the user."""
        return [
            row[0]
            for series in self.query("SHOW DATABASES", again=True)
            for row in series.values
            if row and isinstance(row[0], str)
        ]

    # --- sending --------------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | bytes | None = None,
    ) -> HTTPReply:
        with self._open(method, path, params=params, data=data) as answer:
            reply = self._whole(answer)
        if reply.status >= 300:
            raise refusal(self._label, reply, self._shown)
        return reply

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | bytes | None = None,
    ) -> Generator[HTTPAnswer]:
        """Send a request, and translate every error until the block ends."""
        headers = {"Accept": "application/json"}
        if self._user:
            both = f"{self._user}:{self._password}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(both).decode()}"
        if isinstance(data, Mapping):
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            data = urlencode(data).encode()
        request = self._asking(self.scheme, method, path, headers, params=params, body=data)
        try:
            with self._session.open(request) as answer:
                yield answer
        except HTTPFailure as failure:
            raise unreachable(self._label, failure) from None

    def _asking(
        self,
        scheme: str,
        method: str,
        path: str,
        headers: Mapping[str, str],
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> HTTPRequest:
        return HTTPRequest(
            method,
            scheme,
            self._address,
            self._path + path,
            params,
            {"User-Agent": "Shardkeeper", "Accept-Encoding": "identity", **headers},
            body,
            min(CONNECT_TIMEOUT_S, self._timeout_s),
            self._timeout_s,
        )

    def _found_scheme(self) -> str:
        """Probe over http, without credentials; an https server refuses that or disconnects."""
        try:
            with self._session.open(self._asking("http", "GET", "/ping", {})) as answer:
                if answer.status != 400:
                    return "http"
                return "https" if wants_tls(400, self._body(answer)) else "http"
        except HTTPFailure as failure:
            if not is_broken_off(failure):
                raise unreachable(self._label, failure) from None
            found = probe_tls(self._address, timeout_s=self._timeout_s, route=self._route)
            return "https" if found else "http"
        finally:
            # A peer that ends the connection now would break off the first request on it.
            self._session.close()

    def _whole(self, answer: HTTPAnswer) -> HTTPReply:
        return HTTPReply(answer.status, answer.headers, self._body(answer))

    def _lines(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the incoming lines; a JSON document of the server has no line end inside."""
        rest = bytearray()
        for chunk in chunks:
            *whole, last = chunk.split(b"\n")
            for line in whole:
                if rest:
                    line = bytes(rest) + line
                    rest.clear()
                if line and not line.isspace():
                    yield line
            rest += last
            if len(rest) > MAX_REPLY_BYTES:
                raise self._odd(f"it is longer than {MAX_REPLY_BYTES} bytes")
        if rest.strip():
            yield bytes(rest)

    def _body(self, answer: HTTPAnswer) -> bytes:
        return b"".join(self._bounded(answer))

    def _bounded(self, answer: HTTPAnswer) -> Iterator[bytes]:
        """Yield a reply as it arrives, up to a limit of bytes and of time."""
        deadline = time.monotonic() + PATIENCE * self._timeout_s
        n_bytes = 0
        for chunk in self._pieces(answer):
            n_bytes += len(chunk)
            if n_bytes > MAX_REPLY_BYTES:
                raise self._odd(f"it is longer than {MAX_REPLY_BYTES} bytes")
            if time.monotonic() > deadline:
                raise PeerUnreachable(f"{self._label}: its reply never ends")
            yield chunk

    def _pieces(self, answer: HTTPAnswer) -> Iterator[bytes]:
        try:
            yield from answer.pieces(self._stall_limit)
        except PeerTooSlow as error:
            raise PeerTooSlow(
                f"{self._label}: {error.what} while answering", hint=error.hint
            ) from None

    def _date_ns(self, headers: Mapping[str, str]) -> int:
        found = clock_ns(headers)
        if found is None:
            raise self._odd("it has no server time")
        return found

    # --- errors ---------------------------------------------------------------------------

    @contextmanager
    def _named(self) -> Generator[None]:
        """Add the address to the errors of parsing a reply."""
        try:
            yield
        except ErrorInstead as error:
            raise PeerRefused(f"{self._label}: {self._shown(error.message)}") from None
        except BadReply as error:
            if error.what.startswith(f"{self._label}: "):
                raise
            raise BadReply(f"{self._label}: {error.what}", hint=error.hint) from None

    def _odd(self, what: str) -> BadReply:
        return BadReply(f"{self._label}: unexpected reply: {what}")

    def _shown(self, error: object) -> str:
        """An error text of the server, safe for a terminal and without our password."""
        text = error if isinstance(error, str) else "an error without a text"
        text = redacted(text, self._user, self._password)
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:500])
        return shown.strip() or "no reason"
