"""Find the server or the cluster behind whichever of its addresses was given."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from resources.clients.address import HostPort, split_host_port
from resources.clients.auth import Auth
from resources.clients.http import InfluxHTTP
from resources.clients.server import Server
from resources.clients.snapshotter import PeerKind, SnapshotterClient, probe_kind
from resources.errors import PeerUnreachable, UnsupportedPeer, UsageError

if TYPE_CHECKING:  # who backs up a single server need not load what clusters take
    from resources.clients.cluster import Cluster

DEFAULT_BIND = "localhost:8091"
"""A meta node's address, as `influxd-ctl` has it."""
META_PORT = 8091
TCP_PORT = 8088
HTTP_PORT = 8086
NO_HTTP = "none"

AuthType = Literal["none", "basic", "jwt"]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server or a cluster is, and how to be let in.

    Attributes:
        bind: any address of a server, or a meta node's; who answers there is asked. Only used
            without `host`.
        host: a single server's TCP address (8088).
        http: its HTTP address (8086), a URL or host:port; by default on the same host; `none`
            does without, so that every backup copies everything. Of a cluster, the one data
            node to send statements to; by default all, by the addresses that they advertise.
        user, password: for HTTP, and for meta nodes with `auth_type` basic.
        auth_type: how to be let in by meta nodes; basic if there is a user, else none.
        secret: the shared secret of meta nodes, for jwt.
        tls: whether meta nodes speak https.
        data_tls: whether data nodes speak TLS on 8088 (`[coordinator] https-enabled`).
        verify_tls: whether a certificate must be valid.
        timeout_s: how long a peer may be silent.
    """

    bind: str = ""
    host: str = ""
    http: str = ""
    user: str = ""
    password: str = field(default="", repr=False)
    auth_type: AuthType | None = None
    secret: str = field(default="", repr=False)
    tls: bool = False
    data_tls: bool = False
    verify_tls: bool = True
    timeout_s: float = 60.0


def open_source(at: Address) -> Server | Cluster:
    """Open a single server or a cluster.

    Raises:
        PeerUnreachable: nobody listens there.
        UnsupportedPeer: a member of a cluster that is no meta node listens there.
        UsageError: an address is none, or credentials contradict each other.
    """
    if at.host:
        tcp = split_host_port(at.host, TCP_PORT)
        return _server(at, tcp, at.http, probe_kind(str(tcp), timeout_s=at.timeout_s))
    bind = at.bind or DEFAULT_BIND
    found = split_host_port(bind, META_PORT)
    if at.tls:
        return _cluster(at, bind)
    kind = _who_listens(bind, found, at.timeout_s)
    if kind is not PeerKind.HTTP:
        return _server(at, found, at.http, kind)
    meta = _cluster(at, bind)
    if meta.meta.is_meta_node():
        return meta
    api = InfluxHTTP(str(found), user=at.user, password=at.password, verify=at.verify_tls)
    if not api.ping().version:
        raise UnsupportedPeer(
            f"{found} answers HTTP and is no InfluxDB server",
            hint="-bind names a meta node, port 8091 by default; -host a server's TCP address",
        )
    tcp = HostPort(found.host, TCP_PORT)
    try:
        kind = probe_kind(str(tcp), timeout_s=at.timeout_s)
    except PeerUnreachable as error:
        error.hint = (
            f"{found} is the HTTP port of an InfluxDB server, so its port {TCP_PORT} was tried; "
            "-host names its TCP address, -bind a cluster's meta node, port 8091 by default"
        )
        raise
    return _server(at, tcp, at.http or str(found), kind)


def _server(at: Address, tcp: HostPort, http: str, kind: PeerKind) -> Server:
    if kind is PeerKind.HTTP:
        raise UnsupportedPeer(
            f"{tcp} is an HTTP port", hint="-host takes the TCP address, port 8088 by default"
        )
    if kind is PeerKind.CLUSTER_DATA_NODE:
        raise UnsupportedPeer(
            f"{tcp} is a data node of a cluster and has only some of its shards",
            hint="-bind names a meta node, port 8091 by default, and backs up the whole cluster",
        )
    client = SnapshotterClient(str(tcp), timeout_s=at.timeout_s)
    if http == NO_HTTP:
        return Server(client, None)
    address = http or str(HostPort(tcp.host, HTTP_PORT))
    return Server(
        client,
        InfluxHTTP(
            address,
            user=at.user,
            password=at.password,
            timeout_s=at.timeout_s,
            verify=at.verify_tls,
        ),
    )


def _cluster(at: Address, bind: str) -> Cluster:
    from resources.clients.cluster import Cluster
    from resources.clients.meta import MetaClient
    from resources.clients.tls import client_tls

    def http(address: str) -> InfluxHTTP:
        return InfluxHTTP(
            at.http or address,
            user=at.user,
            password=at.password,
            timeout_s=at.timeout_s,
            verify=at.verify_tls,
        )

    return Cluster(
        MetaClient(
            bind,
            tls=at.tls,
            skip_verify=not at.verify_tls,
            auth=_auth(at),
            timeout_s=at.timeout_s,
        ),
        timeout_s=at.timeout_s,
        tls=client_tls(skip_verify=not at.verify_tls) if at.data_tls else None,
        http=None if at.http == NO_HTTP else http,
    )


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


def _who_listens(bind: str, address: HostPort, timeout_s: float) -> PeerKind:
    try:
        return probe_kind(str(address), timeout_s=timeout_s)
    except PeerUnreachable as error:
        if bind == DEFAULT_BIND:
            raise PeerUnreachable(
                error.what,
                hint="-bind names the meta node; for a single server use -host localhost:8088",
            ) from None
        raise
