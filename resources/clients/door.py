"""Find a server behind whichever of its addresses was given."""

from __future__ import annotations

from resources.clients.address import HostPort, split_host_port
from resources.clients.http import InfluxHTTP
from resources.clients.server import Server
from resources.clients.snapshotter import PeerKind, SnapshotterClient, probe_kind
from resources.errors import PeerUnreachable, UnsupportedPeer

DEFAULT_BIND = "localhost:8091"
"""A meta node's address, as `influxd-ctl` has it."""
META_PORT = 8091
TCP_PORT = 8088
HTTP_PORT = 8086


def open_server(
    *,
    bind: str = "",
    host: str = "",
    http: str = "",
    user: str = "",
    password: str = "",
    verify_tls: bool = True,
    timeout_s: float = 60.0,
) -> Server:
    """Open a single server.

    Args:
        bind: any of its addresses; who answers there is asked. Only used without `host`.
        host: its TCP address (8088).
        http: its HTTP address (8086), a URL or host:port; by default on the same host.
        user, password: for HTTP.
        verify_tls: whether an https certificate must be valid.
        timeout_s: how long the server may be silent.

    Raises:
        PeerUnreachable: nobody listens there.
        UnsupportedPeer: a member of a cluster listens there.
        UsageError: an address is none.
    """
    if host:
        tcp = split_host_port(host, TCP_PORT)
        kind = probe_kind(str(tcp), timeout_s=timeout_s)
    else:
        tcp, kind = _behind(bind or DEFAULT_BIND, timeout_s)
        if kind is PeerKind.HTTP:
            found = tcp
            tcp = HostPort(found.host, TCP_PORT)
            api = InfluxHTTP(str(found), user=user, password=password, verify=verify_tls)
            if not api.ping().version:
                raise UnsupportedPeer(
                    f"{found} answers HTTP and is no InfluxDB server",
                    hint="-host names a server's TCP address, port 8088 by default",
                )
            http = http or str(found)
            kind = probe_kind(str(tcp), timeout_s=timeout_s)
    if kind is PeerKind.HTTP:
        raise UnsupportedPeer(
            f"{tcp} is an HTTP port", hint="-host takes the TCP address, port 8088 by default"
        )
    if kind is PeerKind.CLUSTER_DATA_NODE:
        raise UnsupportedPeer(
            f"{tcp} is a data node of a cluster; this version backs up single servers",
            hint="one node holds only some of a cluster's shards, so its backup would be "
            "incomplete, and an import would leave shards without owners",
        )
    address = http or str(HostPort(tcp.host, HTTP_PORT))
    return Server(
        SnapshotterClient(str(tcp), timeout_s=timeout_s),
        InfluxHTTP(address, user=user, password=password, verify=verify_tls),
    )


def _behind(bind: str, timeout_s: float) -> tuple[HostPort, PeerKind]:
    address = split_host_port(bind, META_PORT)
    try:
        return address, probe_kind(str(address), timeout_s=timeout_s)
    except PeerUnreachable as error:
        if bind == DEFAULT_BIND:
            raise PeerUnreachable(
                error.what,
                hint="-bind names the meta node; for a single server use -host localhost:8088",
            ) from None
        raise
