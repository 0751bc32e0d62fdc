"""host:port, as flags and a cluster's metastore write it."""

from __future__ import annotations

import re
from typing import NamedTuple

from resources.errors import UsageError

_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[^\s\x00-\x1f\x7f/@?#\[\]]+")


class HostPort(NamedTuple):
    """An address to connect to; an IPv6 host prints with brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def split_host_port(address: str, default_port: int) -> HostPort:
    """Read `host`, `host:port`, `[v6]`, `[v6]:port` or a bare IPv6 address.

    Raises:
        UsageError: the text has none of these forms, or its port is not 1 to 65535.
    """
    # The user may have typed a URL with a password, so no message repeats it.
    if "://" in address or "@" in address:
        raise UsageError(
            "an address is host:port, not a URL", hint=f"for example localhost:{default_port}"
        )
    if address.startswith("["):
        host, closed, rest = address[1:].partition("]")
        if not closed or ":" not in host or rest[:1] not in ("", ":"):
            raise _no_address(address, "brackets hold an IPv6 address, and a port follows a colon")
        port = rest[1:] if rest else None
    elif address.count(":") > 1:
        host, port = address, None
    else:
        host, colon, after = address.partition(":")
        port = after if colon else None
    if not _HOST.fullmatch(host) or not _resolvable(host):
        raise _no_address(address, f"expected host:port, for example localhost:{default_port}")
    if port is None:
        return HostPort(host, default_port)
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise _no_address(address, "a port is a number of 1 to 65535")
    return HostPort(host, int(port))


def _resolvable(host: str) -> bool:
    """Whether the resolver accepts the name; it raises on labels that are empty or too long."""
    try:
        return bool(host.encode("idna"))
    except UnicodeError:
        return False


def _no_address(address: str, hint: str) -> UsageError:
    return UsageError(f"{address[:120]!a} is not an address", hint=hint)
