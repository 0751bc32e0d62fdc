"""Finds the server or the cluster behind any of its addresses."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from msgspec.structs import replace

from resources.clients.address import HostPort, split_host_port
from resources.clients.auth import Auth
from resources.clients.http import InfluxHTTP
from resources.clients.meta_nodes import meta_addresses, named_addresses
from resources.clients.peer_kind import PeerKind, probe_kind
from resources.clients.server import Server
from resources.clients.snapshotter import SnapshotterClient
from resources.clients.source_address import DEFAULT_BIND, Address
from resources.errors import (
    PeerUnreachable,
    ShardkeeperError,
    UnsupportedPeer,
    UsageError,
    WireError,
)
from resources.protocol.meta import decode_metastore

if TYPE_CHECKING:  # a backup of a single server does not load the modules for clusters
    from ssl import SSLContext

    from resources.clients.cluster import Cluster
    from resources.clients.meta import MetaClient

META_PORT = 8091
BRIEF_S = 3.0
"""How long a meta node that -bind names may be silent at first, while it names others too."""
OTHER_META_NODES = "any meta node of a cluster will do; -bind takes several, separated by commas"
TCP_PORT = 8088
HTTP_PORT = 8086
NO_HTTP = "none"


def open_source(at: Address) -> Server | Cluster:
    """Open a single server or a cluster.

    Raises:
        PeerUnreachable: no server listens at the address.
        UnsupportedPeer: a cluster member other than a meta node listens there.
        UsageError: an address is malformed, or credentials contradict each other.
    """
    source = _found(at)
    source.reached_by = at
    return source


def _found(at: Address) -> Server | Cluster:
    at.trust.check()
    if at.host:
        tcp = split_host_port(at.host, TCP_PORT)
        return _server(at, tcp, at.http, _kind(at, tcp, at.socket_tls))
    bind = at.bind or DEFAULT_BIND
    if at.tls:
        return open_cluster(at, bind)
    found, kind, silent = _first_that_answers(at, bind)
    if kind not in (PeerKind.HTTP, PeerKind.TLS):
        return _server(at, found, at.http, kind)
    others = [str(other) for other in named_addresses(bind) if other != found]
    meta = open_cluster(replace(at, tls=kind is PeerKind.TLS), ",".join([str(found), *others]))
    for node in silent:
        meta.meta.note_away(node)
    if meta.meta.is_meta_node():
        return meta
    scheme = "https" if kind is PeerKind.TLS else "http"
    api = open_http(at, f"{scheme}://{found}")
    if not api.ping().version:
        raise UnsupportedPeer(
            f"{found} answers HTTP and is not an InfluxDB server",
            hint="-bind names a meta node, port 8091 by default; -host a server's TCP address",
        )
    tcp = HostPort(found.host, TCP_PORT)
    try:
        kind = _kind(at, tcp, at.socket_tls)
    except PeerUnreachable as error:
        error.hint = (
            f"{found} is the HTTP port of an InfluxDB server, so its port {TCP_PORT} was tried; "
            f"-host names its TCP address, -bind a cluster's meta node, port 8091 by default; "
            f"{error.hint}"
        ).removesuffix("; ")
        raise
    return _server(at, tcp, at.http or f"{scheme}://{found}", kind)


def _kind(at: Address, tcp: HostPort, tls: SSLContext | None) -> PeerKind:
    return probe_kind(str(tcp), timeout_s=at.timeout_s, tls=tls, route=at.route)


def _server(at: Address, tcp: HostPort, http: str, kind: PeerKind) -> Server:
    if kind is PeerKind.HTTP:
        raise UnsupportedPeer(
            f"{tcp} is an HTTP port", hint="-host takes the TCP address, port 8088 by default"
        )
    if kind is PeerKind.TLS:
        raise UnsupportedPeer(
            f"{tcp} speaks TLS",
            hint="use -data-tls if a proxy encrypts port 8088; -http takes the address of an https "
            "API, port 8086 by default",
        )
    client = SnapshotterClient(
        str(tcp),
        timeout_s=at.timeout_s,
        min_bytes_per_s=at.min_bytes_per_s,
        tls=at.socket_tls,
        route=at.route,
    )
    if kind is PeerKind.CLUSTER_DATA_NODE:
        raise UnsupportedPeer(
            f"{tcp} is a data node of a cluster and has only some of its shards",
            hint=f"name a meta node of the cluster instead: -bind {_meta_nodes(client)}",
        )
    if http == NO_HTTP:
        return Server(client, None)
    return Server(client, open_http(at, http or str(HostPort(tcp.host, HTTP_PORT))))


def _meta_nodes(data_node: SnapshotterClient) -> str:
    """The meta nodes that a data node knows, as `-bind` takes them."""
    nodes: list[HostPort] = []
    with suppress(ShardkeeperError):
        nodes = meta_addresses(decode_metastore(data_node.metastore(), groups=False).meta_nodes)
    return ",".join(map(str, nodes)) or "meta-1:8091, port 8091 by default"


def open_http(at: Address, address: str) -> InfluxHTTP:
    """The HTTP API of a server or data node at `address`, with the credentials of `at`."""
    return InfluxHTTP(
        address,
        user=at.user,
        password=at.password,
        timeout_s=at.timeout_s,
        trust=at.trust,
        route=at.route,
        min_bytes_per_s=at.min_bytes_per_s,
    )


def open_cluster(at: Address, bind: str) -> Cluster:
    """A cluster by one of its meta nodes; sends no request yet."""
    from resources.clients.cluster import Cluster
    from resources.clients.meta import MetaClient

    meta = MetaClient(
        bind,
        tls=at.tls,
        auth=_auth(at),
        timeout_s=at.timeout_s,
        trust=at.trust,
        route=at.route,
        min_bytes_per_s=at.min_bytes_per_s,
    )

    def http(address: str) -> InfluxHTTP:
        return open_http(at, at.http or _with_scheme(meta, address))

    return Cluster(
        meta,
        timeout_s=at.timeout_s,
        min_bytes_per_s=at.min_bytes_per_s,
        tls=at.socket_tls,
        http=None if at.http == NO_HTTP else http,
        route=at.route,
    )


def _with_scheme(meta: MetaClient, address: str) -> str:
    """A data node's HTTP address, with https if the meta nodes report https.

    A node announces that to the meta nodes some seconds after its start. Until then the client
    probes the node for it, as it does with any server.
    """
    if "://" in address:
        return address
    try:
        schemes = {node.http_addr: node.http_scheme for node in meta.members().data}
    except WireError:
        schemes = {}
    return f"https://{address}" if schemes.get(address) == "https" else address


def _auth(at: Address) -> Auth:
    kind = at.auth_type or ("basic" if at.user else "none")
    if kind == "basic":
        if not at.user:
            raise UsageError("-auth-type basic needs -user", hint="and -pwd-file, or -pwd")
        return Auth.basic(at.user, at.password)
    if kind == "jwt":
        if not at.secret:
            raise UsageError(
                "-auth-type jwt needs -secret",
                hint="the meta nodes' internal-shared-secret, or with -user their shared-secret",
            )
        return Auth.jwt(at.secret, at.user)
    return Auth.none()


def _first_that_answers(at: Address, bind: str) -> tuple[HostPort, PeerKind, list[HostPort]]:
    """The first address of -bind at which a server answers, its kind, and who did not answer.

    If there are several, each is first waited for briefly: one that stands still must not delay
    the run by its whole time-out.
    """
    named = named_addresses(bind)
    if len(named) > 1:
        brief = replace(at, timeout_s=min(at.timeout_s, BRIEF_S))
        with suppress(PeerUnreachable):
            return _first_within(brief, bind, named)
    return _first_within(at, bind, named)


def _first_within(
    at: Address, bind: str, named: list[HostPort]
) -> tuple[HostPort, PeerKind, list[HostPort]]:
    for n, address in enumerate(named[:-1]):
        with suppress(PeerUnreachable):
            return address, _who_listens(at, bind, address), named[:n]
    return named[-1], _who_listens(at, bind, named[-1]), named[:-1]


def _who_listens(at: Address, bind: str, address: HostPort) -> PeerKind:
    try:
        return _kind(at, address, None)
    except PeerUnreachable as error:
        if bind == DEFAULT_BIND:
            raise PeerUnreachable(
                error.what,
                hint="-bind names the meta node; for a single server use -host localhost:8088",
            ) from None
        error.hint = "; ".join(filter(None, [error.hint, OTHER_META_NODES]))
        raise
