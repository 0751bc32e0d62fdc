"""host:port, as flags and a cluster's metastore write it, and as it is reached from here.

The metastore of a cluster and a leader's redirects name nodes by the addresses that the nodes
know. From outside, behind NAT, published ports or a tunnel, another address leads there:
`-map advertised=reachable`. Only the connection uses the other address: messages, manifests,
certificates and commands to nodes keep the advertised name.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from typing import NamedTuple

from msgspec import Struct

from resources.errors import UsageError, shown

_PORT = re.compile(r"[0-9]{1,5}")
_HOST = re.compile(r"[^\s\x00-\x1f\x7f/@?#\[\]]+")


NO_PORT = 0


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


class Endpoint(Struct, frozen=True):
    """Where to connect to, and what it is called."""

    host: str
    """As its certificate names it."""
    reached: HostPort
    name: str
    """For messages; it includes the reachable address where that differs."""


class AddressMap(Struct, frozen=True):
    """Advertised addresses and their reachable ones; falsy when empty.

    Attributes:
        routes: pairs of advertised and reachable; port 0 means any port on the left, and the
            same port on the right.
    """

    routes: tuple[tuple[HostPort, HostPort], ...] = ()

    @classmethod
    def parse(cls, texts: Iterable[str]) -> AddressMap:
        """Read `data-1:8088=localhost:18088`, or `data-1=10.0.0.5` for all of its ports.

        Raises:
            UsageError: a text has another form, or one address leads to two places.
        """
        found: dict[HostPort, HostPort] = {}
        for text in texts:
            advertised, equals, reachable = text.partition("=")
            if not equals or "=" in reachable:
                raise UsageError(f"-map {shown(text)} is not advertised=reachable", hint=_EXAMPLE)
            left, right = _side(advertised), _side(reachable)
            if left.port == NO_PORT and right.port != NO_PORT:
                raise UsageError(
                    f"-map {shown(text)}: all ports of {left.host} would lead to one",
                    hint=f"give both a port, such as {left.host}:8088={right}",
                )
            if found.setdefault(left, right) != right:
                raise UsageError(f"-map: {shown(advertised)} leads to two places")
        return cls(tuple(found.items()))

    def __bool__(self) -> bool:
        return bool(self.routes)

    def __str__(self) -> str:
        return ", ".join(f"{_named(left)}={_named(right)}" for left, right in self.routes)

    def reach(self, advertised: HostPort) -> HostPort:
        """The address to connect to; a route with a port wins over a route for all ports."""
        host = _plain(advertised.host)
        for port in (advertised.port, NO_PORT):
            for left, right in self.routes:
                if left == (host, port):
                    return HostPort(right.host, right.port or advertised.port)
        return advertised

    def named(self, advertised: HostPort) -> str:
        """The address for messages; it includes the reachable one where that differs."""
        reached = self.reach(advertised)
        return str(advertised) if reached == advertised else f"{advertised} (at {reached})"

    def endpoint(self, advertised: HostPort) -> Endpoint:
        """How a peer is connected to that is advertised by this address."""
        return Endpoint(advertised.host, self.reach(advertised), self.named(advertised))


NO_MAP = AddressMap()
_EXAMPLE = "for example -map data-1:8088=localhost:18088, or -map data-1=10.0.0.5 for all ports"


def _side(text: str) -> HostPort:
    text = text.strip()
    host, port = split_host_port(text, default_port=NO_PORT)
    return HostPort(_plain(host), port)


def _plain(host: str) -> str:
    """One spelling of a host: IPv6 addresses have many, and names ignore case."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().rstrip(".")


def _named(side: HostPort) -> str:
    named = str(side)
    return named.removesuffix(f":{NO_PORT}") if side.port == NO_PORT else named
