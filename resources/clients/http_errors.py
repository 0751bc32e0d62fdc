"""Errors of HTTP requests: from a failure on the wire, or from the server's reply."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

from msgspec import Struct

from resources.clients.address import split_host_port
from resources.clients.connection import UNKNOWN_HOST, why_tls_failed
from resources.clients.http_wire import HTTPFailure
from resources.errors import (
    BadReply,
    ConnectionCut,
    CredentialsRefused,
    PeerRefused,
    PeerSilent,
    PeerUnreachable,
    UsageError,
    WireError,
)
from resources.protocol.strict_json import decode_json, is_object

MAX_ERROR_BYTES = 64 * 1024
_WANTS_TLS = (b"to an https server", b"sent to https port")
"""The words of Go and of nginx."""


class HTTPReply(Struct, frozen=True):
    """A complete reply; header names are in Title-Case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def wants_tls(status: int, body: bytes) -> bool:
    """Whether an https server reports that it got plain http."""
    message = body[:MAX_ERROR_BYTES].lower()
    return status == 400 and any(words in message for words in _WANTS_TLS)


def is_half_asked(status: int, body: bytes) -> bool:
    """Whether a Go server reports that it received only the beginning of the request.

    Source: Go, net/http server.go, publicErr of badRequestError("400 Bad Request").
    """
    return status == 400 and body == b"400 Bad Request"


def refusal(named: str, reply: HTTPReply, shown: Callable[[object], str]) -> WireError:
    """The error for a reply that reports a failure.

    Args:
        named: the address, for messages.
        shown: makes a text of the server safe for a terminal.
    """
    if reply.status < 400:
        where = _redirected_to(reply)
        return BadReply(
            f"{named}: answers with a redirect (HTTP {reply.status})"
            + (f" to {where}" if where else ""),
            hint="redirects are not followed with credentials: give the final address"
            + (f", -http {where}, if it is the server's" if where else ""),
        )
    if wants_tls(reply.status, reply.body):
        return BadReply(
            f"{named}: speaks https, and the request used http",
            hint=f"give it as https://{named.partition(' ')[0]}, or without http:// in front",
        )
    if is_half_asked(reply.status, reply.body):
        return ConnectionCut(f"{named}: got the beginning of the request only")
    try:
        message = decode_json(reply.body[:MAX_ERROR_BYTES], "its reply")
    except BadReply:
        message = None
    is_influxdb = is_object(message) and "error" in message
    reason = shown(message["error"]) if is_object(message) and "error" in message else "no reason"
    what = f"{named}: {reason} (HTTP {reply.status})"
    if reply.status == 401:
        return CredentialsRefused(what, hint="check user and password of the HTTP API")
    if reply.status == 403:
        return CredentialsRefused(what, hint="the user needs more rights: try an admin")
    if reply.status in (502, 503, 504):
        return PeerUnreachable(what, hint="the server, or a proxy in front of it, is not ready")
    return PeerRefused(what, hint="" if is_influxdb else "does InfluxDB answer there, or a proxy?")


def _redirected_to(reply: HTTPReply) -> str:
    """Scheme and address that a redirect leads to; empty if they are malformed."""
    try:
        url = urlsplit(reply.headers.get("Location", ""))
        if url.scheme not in ("http", "https") or "@" in url.netloc:
            return ""
        host, port = split_host_port(url.netloc, default_port=443 if url.scheme == "https" else 80)
    except (ValueError, UsageError):
        return ""
    where = f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return where if where.isascii() and where.isprintable() and len(where) < 300 else ""


def unreachable(named: str, failure: HTTPFailure) -> PeerUnreachable:
    """The error for a failed request; the text of its cause is not repeated."""
    cause = failure.cause
    if isinstance(cause, ssl.SSLError):
        openssl = getattr(cause, "reason", None)  # errors that Python made by itself have none
        why = f": {openssl}" if openssl else ""
        return (ConnectionCut if is_cut(failure) else PeerUnreachable)(
            f"{named}: TLS failed{why}", hint=why_tls_failed(cause)
        )
    if isinstance(cause, TimeoutError):
        return (PeerUnreachable if is_unsent(failure) else PeerSilent)(
            f"{named}: HTTP server does not answer in time"
        )
    if is_unknown_host(failure):
        return PeerUnreachable(f"{named}: unknown host", hint=UNKNOWN_HOST)
    return (ConnectionCut if is_cut(failure) else PeerUnreachable)(
        f"{named}: no HTTP connection, or it broke",
        hint="is the server up, and the address right (http or https)?",
    )


def is_cut(failure: HTTPFailure) -> bool:
    """Whether an established connection broke before the reply was complete."""
    cause = failure.cause
    if is_unsent(failure) or isinstance(cause, TimeoutError):
        return False
    return not isinstance(cause, ssl.SSLError) or isinstance(cause, ssl.SSLEOFError)


def is_unsent(failure: HTTPFailure) -> bool:
    """Whether certainly no byte of the request was sent."""
    return failure.stage == "connecting"


def is_unknown_host(failure: HTTPFailure) -> bool:
    return isinstance(failure.cause, socket.gaierror | UnicodeError)


def is_broken_off(failure: HTTPFailure) -> bool:
    """Whether the peer accepted the connection and answered without HTTP."""
    return failure.stage == "asking" and not isinstance(failure.cause, TimeoutError)
