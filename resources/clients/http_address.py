"""The address of an HTTP API: host:port, or a URL."""

from __future__ import annotations

from urllib.parse import unquote, urlsplit

from msgspec import Struct

from resources.clients.address import HostPort, split_host_port
from resources.errors import UsageError
from resources.values import repr_without

HTTP_PORT = 8086


class HTTPTarget(Struct, frozen=True):
    """The address of requests, with the credentials that the URL had."""

    scheme: str
    """http or https; empty: not given, so the client probes for it."""
    address: HostPort
    path: str
    user: str = ""
    password: str = ""

    __repr__ = repr_without("password")


def http_target(address: str) -> HTTPTarget:
    """Read host:port or an http(s) URL, perhaps with user:password@.

    Raises:
        UsageError: the text is neither.
    """
    if "://" not in address:
        return HTTPTarget("", split_host_port(address, default_port=HTTP_PORT), "")
    try:
        url = urlsplit(address)
    except ValueError:
        raise _not_sound() from None
    if url.scheme not in ("http", "https"):
        raise UsageError("the address is not an http or https URL")
    if url.query or url.fragment:
        raise _not_sound()
    userinfo, _, host_port = url.netloc.rpartition("@")
    user, _, password = userinfo.partition(":")
    try:
        server = split_host_port(host_port, default_port=HTTP_PORT)
    except UsageError:
        raise _not_sound() from None
    if "@" in url.path:
        raise _not_sound()
    return HTTPTarget(
        url.scheme,
        HostPort(server.host.replace("%25", "%"), server.port),  # the zone of an IPv6 address
        url.path.rstrip("/"),
        unquote(user),
        unquote(password),
    )


def _not_sound() -> UsageError:
    """The error for a malformed URL; it repeats no part, since any may belong to a password."""
    return UsageError(
        "the URL is not http://host:port, or http://user:password@host:port",
        hint="write /, ?, #, [, ] and @ in a password as %2F, %3F, %23, %5B, %5D and %40; or give "
        "it with -pwd-file",
    )
