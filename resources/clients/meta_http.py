"""One HTTP request to one meta node (8091): bounded, authenticated, never redirected."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct, field

from resources.clients.address import NO_MAP, AddressMap, HostPort, split_host_port
from resources.clients.auth import Auth
from resources.clients.connection import UNKNOWN_HOST, StallLimit
from resources.clients.cut_again import asked_again
from resources.clients.http_errors import (
    is_cut,
    is_half_asked,
    is_unknown_host,
    is_unsent,
    unreachable,
    wants_tls,
)
from resources.clients.http_wire import HTTPAnswer, HTTPFailure, HTTPRequest, HTTPSession
from resources.clients.source_address import MIN_BYTES_PER_S
from resources.clients.tls import Trust
from resources.errors import (
    BadReply,
    ConnectionCut,
    CredentialsRefused,
    PeerRefused,
    PeerTooSlow,
    PeerUnreachable,
    UnknownOutcome,
    UsageError,
    WireError,
)
from resources.protocol.meta_api import error_text
from resources.values import repr_without

META_PORT = 8091
CONNECT_TIMEOUT_S = 10.0
PATIENCE = 20
"""How many times `timeout_s` a whole reply may take, at any rate."""

INDEX_HEADER = "Influxdb-Metaindex"
"""Every reply of a meta node has this header, refusals included."""

_LEADERLESS = ("no leader", "server closed")
"""A meta node reports these before it applies anything."""


class Reply(Struct, frozen=True):
    """A reply; its status is below 400 or one that the caller accepts."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    __repr__ = repr_without("body")


class MetaHTTP(Struct, frozen=True):
    """Sends requests, each on a connection of its own, since a kept one may be dead already.

    Proxies and credentials of the environment are not used.
    """

    auth: Auth = field(default_factory=Auth.none)
    tls: bool = False
    trust: Trust = field(default_factory=Trust)
    """The trusted authorities."""
    timeout_s: float = 30.0
    clock: Callable[[], float] = time.time
    route: AddressMap = NO_MAP
    """Reachable addresses for the ones that meta nodes advertise."""
    min_bytes_per_s: int = MIN_BYTES_PER_S
    """The minimum rate of a meta node, once it answers; see `StallLimit`."""

    @property
    def scheme(self) -> str:
        return "https" if self.tls else "http"

    def get(
        self,
        address: HostPort,
        path: str,
        *,
        limit: int,
        params: Mapping[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> Reply:
        """Send a GET request; `accept` lists statuses to return like success.

        Raises:
            PeerUnreachable: also if there is no leader.
            CredentialsRefused, PeerRefused, BadReply: the request fails.
        """

        def ask() -> Reply:
            try:
                return self._send("GET", address, path, limit, params=params)
            except _Broken as broken:
                raise broken.error from None

        return self.checked(address, asked_again(ask), accept)

    def post(self, address: HostPort, path: str, body: bytes, *, limit: int) -> Reply:
        """Send a command; status 307 is returned.

        Raises:
            UnknownOutcome: the command may have been sent, and no reply shows what became of it.
            PeerUnreachable: the command was not accepted: no server there, or no leader.
            CredentialsRefused, PeerRefused, BadReply: the request fails.
        """
        try:
            reply = self._send("POST", address, path, limit, body=body)
        except _Broken as broken:
            if broken.before_sending:
                raise broken.error from None
            raise unknown(broken.error) from None
        error = self._refusal(address, reply, accept=(307,))
        if reply.status >= 500 and error_text(reply.body) not in _LEADERLESS:
            raise unknown(error or BadReply(f"{address}: HTTP {reply.status}"))
        if error is not None:
            raise error
        return reply

    def redirected(self, address: HostPort, reply: Reply, path: str) -> HostPort:
        """The address that a 307 redirects to.

        Raises:
            BadReply: path or scheme differ; credentials must not go there.
        """
        try:
            url = urlsplit(reply.headers.get("Location", ""))
            netloc = url.netloc
            where = split_host_port(netloc, META_PORT) if netloc else None
        except (ValueError, UsageError):
            where, url = None, urlsplit("")
        if where is None or url.path != path:
            raise BadReply(f"{address}: redirects, but not to {path} of another meta node")
        if url.scheme != self.scheme:
            raise BadReply(
                f"{address}: redirects from {self.scheme} to another scheme",
                hint="all meta nodes should use TLS, or none; is a proxy between?",
            )
        return where

    def named_leader(self, address: HostPort, reply: Reply) -> HostPort:
        """The leader's address in a 307; its scheme is the one of all meta nodes.

        Raises:
            BadReply: the reply has no address.
        """
        try:
            netloc = urlsplit(reply.headers.get("Location", "")).netloc
            return split_host_port(netloc, META_PORT)
        except (ValueError, UsageError):
            raise BadReply(f"{address}: names a leader without an address") from None

    def shown(self, text: str) -> str:
        """A server's text, safe for a terminal and without our secrets."""
        cut = self.auth.redacted(text)[:500]
        shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in cut)
        return shown.strip() or "no reason"

    # --- sending --------------------------------------------------------------------------

    def _send(
        self,
        method: str,
        address: HostPort,
        path: str,
        limit: int,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Reply:
        headers = {"Accept-Encoding": "identity", "User-Agent": "Shardkeeper"}
        if body is not None:
            headers["Content-Type"] = "application/octet-stream"
        if (credentials := self.auth.header(self.clock())) is not None:
            headers["Authorization"] = credentials
        request = HTTPRequest(
            method,
            self.scheme,
            address,
            path,
            params,
            headers,
            body,
            min(CONNECT_TIMEOUT_S, self.timeout_s),
            self.timeout_s,
        )
        session = HTTPSession(self.trust, self.route)
        try:
            with session.open(request) as answer:
                raw = self._body(address, answer, limit)
            if is_half_asked(answer.status, raw):
                raise ConnectionCut(f"{address}: got the beginning of the request only")
            return Reply(answer.status, answer.headers, raw)
        except HTTPFailure as failure:
            trouble = _unreachable(self.route.named(address), failure)
            raise _Broken(trouble, before_sending=is_unsent(failure)) from None
        except PeerTooSlow as error:
            slow = PeerTooSlow(f"{address}: {error.what} while answering", hint=error.hint)
            raise _Broken(slow, before_sending=False) from None
        except WireError as error:
            raise _Broken(error, before_sending=False) from None
        finally:
            session.close()

    def _body(self, address: HostPort, answer: HTTPAnswer, limit: int) -> bytes:
        deadline = time.monotonic() + PATIENCE * self.timeout_s
        body = bytearray()
        for piece in answer.pieces(StallLimit(self.timeout_s, self.min_bytes_per_s)):
            body += piece
            if len(body) > limit:
                raise BadReply(f"{address}: its reply is longer than {limit} bytes")
            if time.monotonic() > deadline:
                raise PeerUnreachable(f"{address}: its reply never ends")
        return bytes(body)

    # --- replies --------------------------------------------------------------------------

    def checked(self, address: HostPort, reply: Reply, accept: tuple[int, ...] = ()) -> Reply:
        """Return the reply if it reports success or has an accepted status.

        Raises:
            PeerUnreachable, CredentialsRefused, PeerRefused, BadReply: it reports a failure.
        """
        error = self._refusal(address, reply, accept)
        if error is not None:
            raise error
        return reply

    def _refusal(
        self, address: HostPort, reply: Reply, accept: tuple[int, ...]
    ) -> WireError | None:
        if reply.status == 200 or reply.status in accept:
            return None
        if wants_tls(reply.status, reply.body):
            return BadReply(f"{address}: speaks TLS only", hint=USE_TLS)
        if reply.status < 400:
            return BadReply(f"{address}: unexpected reply (HTTP {reply.status})")
        reason = error_text(reply.body)
        if reason is None:
            reason = reply.body[:200].decode("ascii", "replace")
        what = f"{address}: {self.shown(reason)} (HTTP {reply.status})"
        if reply.status in (401, 403):
            return CredentialsRefused(what, hint=self.auth.hint)
        if reply.status in (502, 503, 504):
            return PeerUnreachable(
                what, hint="the meta nodes are choosing a leader, or too few of them are up"
            )
        if INDEX_HEADER not in reply.headers:
            return PeerRefused(what, hint="is this a meta node? Its HTTP port is 8091 by default")
        return PeerRefused(what)


def index_in(reply: Reply) -> int | None:
    """The index of the meta node's metastore at the request, from the reply's header."""
    text = reply.headers.get(INDEX_HEADER, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 21 else None


class _Broken(Exception):
    """A request that got no complete reply."""

    def __init__(self, error: WireError, *, before_sending: bool) -> None:
        super().__init__()
        self.error = error
        self.before_sending = before_sending


def unknown(error: WireError) -> UnknownOutcome:
    return UnknownOutcome(
        f"{error.what}; whether the command took effect is not known",
        hint="check the cluster's state before trying again",
    )


USE_TLS = "the meta nodes speak https: -bind-tls, or tls: true in shardkeeper.yaml"


def _unreachable(named: str, failure: HTTPFailure) -> PeerUnreachable:
    # The cause's text may hold the URL, so the message has only its type.
    if isinstance(failure.cause, ssl.SSLError):
        return unreachable(named, failure)
    if isinstance(failure.cause, TimeoutError):
        return PeerUnreachable(f"{named}: meta node does not answer in time")
    if is_unsent(failure):
        if is_unknown_host(failure):
            return PeerUnreachable(f"{named}: unknown host", hint=UNKNOWN_HOST)
        return PeerUnreachable(
            f"{named}: no HTTP connection",
            hint="is the meta node up, and its address (-bind) right?",
        )
    return (ConnectionCut if is_cut(failure) else PeerUnreachable)(
        f"{named}: the HTTP connection broke ({failure})",
        hint="is this a meta node? Its HTTP port is 8091 by default",
    )
