"""Maps the addresses that servers advertise to reachable ones: `-map advertised=reachable`.

The metastore of a cluster and a leader's redirects name nodes by the addresses that the nodes
know. From outside, behind NAT, published ports or a tunnel, another address leads there. Only the
connection uses the other address: messages, manifests, certificates and commands to nodes keep
the advertised name.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from resources.clients.address import HostPort, split_host_port
from resources.errors import UsageError, shown

NO_PORT = 0


@dataclass(frozen=True, slots=True)
class AddressMap:
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
