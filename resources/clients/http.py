"""InfluxHTTP: the HTTP API (8086) of one server: queries, and what it says about itself."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

import requests
from requests.auth import HTTPBasicAuth
from urllib3.exceptions import ReadTimeoutError

from resources.clients.http_address import HTTP_PORT, http_target
from resources.clients.scrubbing import scrubbed
from resources.clients.session import plain_session
from resources.errors import (
    BadReply,
    CredentialsRefused,
    PeerRefused,
    PeerSilent,
    PeerUnreachable,
    UsageError,
    WireError,
)
from resources.protocol.query_results import Series, query_results
from resources.protocol.said import ErrorInstead
from resources.protocol.server_vars import ServerVars, server_vars
from resources.protocol.strict_json import decode_json, is_object

CONNECT_TIMEOUT_S = 10.0
MAX_REPLY_BYTES = 256 * 2**20
"""/debug/vars takes about 2 kB a shard; a reply as big as this is not one we asked for."""

PATIENCE = 20
"""How many times `timeout_s` a whole reply may take, however lively it trickles in."""

CHUNK_BYTES = 64 * 1024
CHUNK_ROWS = 5_000
"""Rows of one series that a server sends at a time."""
_NS_PER_S = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Ping:
    """Who answers, and what time it is there."""

    version: str
    build: str
    """OSS or ENT; empty before InfluxDB 1.4."""
    clock_ns: int | None
    """In whole seconds, and not ahead; None if it does not say."""


class InfluxHTTP:
    """Asks one server over HTTP. Not for several threads at once.

    Credentials come from here or from the URL, never from the environment; they are in no
    URL, `repr` or error. Proxies of the environment are not used either.

    Args:
        address: host:port or an http(s) URL, perhaps with user:password@.
        user: empty: no authentication.
        password: its password.
        timeout_s: how long the server may be silent.
        verify: whether an https certificate must be good, or a file of authorities to trust.

    Raises:
        UsageError: the address is none, or credentials stand in two places.
    """

    def __init__(
        self,
        address: str,
        *,
        user: str = "",
        password: str = "",
        timeout_s: float = 30.0,
        verify: bool | str = True,
    ) -> None:
        target = http_target(address)
        if target.user and user:
            raise UsageError("credentials are given both in the URL and beside it")
        self._scheme = target.scheme
        self._address = target.address
        self._path = target.path
        self._user = user or target.user
        self._password = password or target.password
        self._timeout_s = timeout_s
        self._session = plain_session(verify)
        if self._user:
            # Text would be sent as Latin-1.
            self._session.auth = HTTPBasicAuth(self._user.encode(), self._password.encode())

    def __repr__(self) -> str:
        return f"InfluxHTTP({self.base_url!r})"

    @property
    def http_addr(self) -> str:
        return str(self._address)

    @property
    def base_url(self) -> str:
        """Without credentials."""
        return f"{self._scheme}://{self._address}{self._path}"

    # --- what it can be asked -------------------------------------------------------------

    def ping(self) -> Ping:
        """Ask for version, build and time.

        Raises:
            BadReply: whoever answers is not InfluxDB 1.x.
            PeerUnreachable, CredentialsRefused, PeerRefused
        """
        reply = self._request("GET", "/ping")
        version = reply.headers.get("X-Influxdb-Version", "").removeprefix("v")
        if not version or len(version) > 100 or not version.isprintable():
            raise BadReply(
                f"{self._address}: answers HTTP, but not as InfluxDB does",
                hint=f"is this the address of its HTTP API, port {HTTP_PORT} by default?",
            )
        build = reply.headers.get("X-Influxdb-Build", "")[:100]
        return Ping(version, build, _clock_ns(reply.headers))

    def server_vars(self, *, activity: bool = True) -> ServerVars:
        """Read /debug/vars; what is not as expected in it is left out.

        Args:
            activity: whether to look for what was written, too; files alone are told sooner.

        Raises:
            BadReply: no JSON, or the server's time is nowhere in it.
            PeerUnreachable, CredentialsRefused, PeerRefused
        """
        with self._open("GET", "/debug/vars") as response:
            if response.status_code >= 300:
                raise self._refusal(self._whole(response))
            with self._named():
                return server_vars(
                    self._lines(self._bounded(response)),
                    fallback_ns=lambda: self._date_ns(response.headers),
                    activity=activity,
                )

    def query(self, q: str, db: str | None = None, *, rp: str | None = None) -> list[Series]:
        """Run statements of InfluxQL and return the series of all results in order.

        Always a POST with the statements in its body, which no access log shows.

        Raises:
            PeerRefused: the server refused the request or one of the statements.
            CredentialsRefused: it wants other credentials, or more rights.
            BadReply: not a result, or one that the server cut off (max-row-limit).
            PeerUnreachable
        """
        params = {"epoch": "ns"}
        if db is not None:
            params["db"] = db
        if rp is not None:
            params["rp"] = rp
        reply = self._request("POST", "/query", params=params, data={"q": q})
        with self._named():
            return list(query_results(reply.body).series)

    def stream(self, q: str) -> Generator[Series]:
        """Run one SELECT and yield its series as they arrive, long ones in several pieces.

        No limit of rows applies, and never more than a piece is in memory.

        Raises: as `query`, also between two pieces.
        """
        params = {"epoch": "ns", "chunked": "true", "chunk_size": str(CHUNK_ROWS)}
        with self._open("POST", "/query", params=params, data={"q": q}) as response:
            if response.status_code >= 300:
                raise self._refusal(self._whole(response))
            more = True
            for line in self._lines(response.iter_content(CHUNK_BYTES)):
                with self._named():
                    piece = query_results(line, in_pieces=True)
                more = piece.more
                yield from piece.series
            if more:
                raise self._odd("it ends before its last piece")

    def write(self, lines: bytes, db: str, rp: str) -> None:
        """Write points in line protocol, with times in ns.

        Raises:
            PeerRefused: the server took none of them, or not all; it says how many it dropped.
            CredentialsRefused, PeerUnreachable
        """
        params = {"db": db, "rp": rp, "precision": "ns"}
        self._request("POST", "/write", params=params, data=lines)

    def databases(self) -> list[str]:
        """The names of all databases that the user may see."""
        return [
            row[0]
            for series in self.query("SHOW DATABASES")
            for row in series.values
            if row and isinstance(row[0], str)
        ]

    # --- how it is asked ------------------------------------------------------------------

    def _request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | bytes | None = None,
    ) -> _Reply:
        with self._open(method, path, params=params, data=data) as response:
            reply = self._whole(response)
        if reply.status >= 300:
            raise self._refusal(reply)
        return reply

    @contextmanager
    def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        data: Mapping[str, str] | bytes | None = None,
    ) -> Generator[requests.Response]:
        """Ask, and name what goes wrong until the block ends."""
        try:
            with self._session.request(
                method,
                self.base_url + path,
                params=params,
                data=data,
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                timeout=(min(CONNECT_TIMEOUT_S, self._timeout_s), self._timeout_s),
                allow_redirects=False,
                stream=True,
            ) as response:
                yield response
        except (requests.RequestException, OSError) as error:
            raise self._unreachable(error) from None

    def _whole(self, response: requests.Response) -> _Reply:
        headers = {name.title(): value for name, value in response.headers.items()}
        return _Reply(response.status_code, headers, self._body(response))

    def _lines(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """What arrives, cut at line ends; JSON has none inside."""
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
                raise self._odd(f"it goes on beyond {MAX_REPLY_BYTES} bytes")
        if rest.strip():
            yield bytes(rest)

    def _body(self, response: requests.Response) -> bytes:
        return b"".join(self._bounded(response))

    def _bounded(self, response: requests.Response) -> Iterator[bytes]:
        """A reply as it arrives, up to a limit of bytes and of time."""
        deadline = time.monotonic() + PATIENCE * self._timeout_s
        n_bytes = 0
        for chunk in response.iter_content(CHUNK_BYTES):
            n_bytes += len(chunk)
            if n_bytes > MAX_REPLY_BYTES:
                raise self._odd(f"it goes on beyond {MAX_REPLY_BYTES} bytes")
            if time.monotonic() > deadline:
                raise PeerUnreachable(f"{self._address}: its reply never ends")
            yield chunk

    def _date_ns(self, headers: Mapping[str, str]) -> int:
        found = _clock_ns(headers)
        if found is None:
            raise self._odd("it does not tell the server's time")
        return found

    # --- what goes wrong ------------------------------------------------------------------

    @contextmanager
    def _named(self) -> Generator[None]:
        """Put the address before what is wrong with a reply."""
        try:
            yield
        except ErrorInstead as error:
            raise PeerRefused(f"{self._address}: {self._shown(error.said)}") from None
        except BadReply as error:
            if error.what.startswith(f"{self._address}: "):
                raise
            raise BadReply(f"{self._address}: {error.what}", hint=error.hint) from None

    def _refusal(self, reply: _Reply) -> WireError:
        if reply.status < 400:
            return BadReply(
                f"{self._address}: answers with a redirect (HTTP {reply.status})",
                hint="redirects are not followed with credentials: give the final address",
            )
        try:
            said = decode_json(reply.body[:CHUNK_BYTES], "its reply")
        except BadReply:
            said = None
        reason = self._shown(said["error"]) if is_object(said) and "error" in said else "no reason"
        what = f"{self._address}: {reason} (HTTP {reply.status})"
        if reply.status == 401:
            return CredentialsRefused(what, hint="check user and password of the HTTP API")
        if reply.status == 403:
            return CredentialsRefused(what, hint="the user needs more rights: try an admin")
        if reply.status in (502, 503, 504):
            return PeerUnreachable(what, hint="the server, or a proxy before it, is not ready")
        return PeerRefused(what)

    def _unreachable(self, error: Exception) -> PeerUnreachable:
        # The exception's own text holds the URL, so only its kind is told.
        if isinstance(error, requests.exceptions.SSLError):
            return PeerUnreachable(
                f"{self._address}: TLS failed",
                hint="is it https at all, and its certificate valid for this name and trusted?",
            )
        if isinstance(error, requests.exceptions.ConnectTimeout):
            return PeerUnreachable(f"{self._address}: HTTP server does not answer in time")
        if _is_silence(error):
            return PeerSilent(f"{self._address}: HTTP server does not answer in time")
        if isinstance(error, requests.exceptions.ConnectionError):
            return PeerUnreachable(
                f"{self._address}: no HTTP connection, or it broke",
                hint="is the server up, and the address right (http or https)?",
            )
        return PeerUnreachable(f"{self._address}: HTTP failed ({type(error).__name__})")

    def _odd(self, what: str) -> BadReply:
        return BadReply(f"{self._address}: unexpected reply: {what}")

    def _shown(self, error: object) -> str:
        """An error text of the server, fit for a terminal and without our password."""
        text = error if isinstance(error, str) else "an error without a text"
        text = scrubbed(text, self._user, self._password)
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:500])
        return shown.strip() or "no reason"


def _clock_ns(headers: Mapping[str, str]) -> int | None:
    """The Date header less the second that it may be ahead of a file's time."""
    try:
        date = parsedate_to_datetime(headers.get("Date", ""))
    except ValueError:
        return None
    return (int(date.timestamp()) - 1) * _NS_PER_S


def _is_silence(error: Exception) -> bool:
    """A timeout in the middle of a reply comes as a broken connection."""
    return isinstance(error, requests.exceptions.ReadTimeout) or any(
        isinstance(cause, ReadTimeoutError) for cause in error.args
    )


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes
