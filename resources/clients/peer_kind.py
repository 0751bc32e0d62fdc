"""Probes which kind of server listens at an address, before any other request."""

from __future__ import annotations

from enum import StrEnum
from ssl import SSLContext

from resources.clients.address import NO_MAP, AddressMap, split_host_port
from resources.clients.connection import Connection, StallLimit
from resources.clients.cut_again import asked_again
from resources.clients.snapshotter import IDLE_TIMEOUT_S, SNAPSHOTTER_PORT
from resources.clients.tls_probe import probe_tls
from resources.errors import ConnectionCut, PeerUnreachable
from resources.protocol import snapshotter as requests
from resources.protocol.meta import decode_metastore
from resources.protocol.snapshotter import MetastoreReply, Stranger, who_answers

NOBODY_BEHIND = (
    "is the port published or forwarded, without a server behind it? InfluxDB listens on "
    'its own 127.0.0.1:8088 unless its configuration begins with bind-address = ":8088" '
    "(INFLUXDB_BIND_ADDRESS=:8088 in a container)"
)


_RESET = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class PeerKind(StrEnum):
    """The kind of server at an address, as far as one probe can tell."""

    SERVER = "server"
    CLUSTER_DATA_NODE = "cluster-data-node"
    HTTP = "http"
    TLS = "tls"
    """A server that speaks TLS, while the probe was plain."""


def probe_kind(
    tcp_addr: str,
    *,
    timeout_s: float = IDLE_TIMEOUT_S,
    tls: SSLContext | None = None,
    route: AddressMap = NO_MAP,
) -> PeerKind:
    """Find out which kind of server listens, by a request for the metastore.

    Every snapshotter answers it, a data node's metastore lists data nodes, and an HTTP server
    refuses it as malformed. No kind of server answers it by a reset, which makes some tunnels
    end, or by a line in its log.

    Raises:
        PeerUnreachable: no server listens or answers in time, or the connection is closed without
            an answer, as a published port does without a server behind it.
        BadReply: another kind of server is there.

    Source: influxdb tcp/mux.go; Go, net/http (badRequestError), crypto/tls.
    """
    address = split_host_port(tcp_addr, default_port=SNAPSHOTTER_PORT)
    answer: MetastoreReply | Stranger

    def ask() -> MetastoreReply | Stranger:
        with Connection(route.endpoint(address), StallLimit(timeout_s), tls=tls) as connection:
            connection.phase("probing the port")
            connection.sendall(requests.MUX_HEADER + requests.MetastoreBackup().encode())
            reply = connection.receive(who_answers)
            connection.finished()
        if reply is Stranger.NOBODY:
            raise ConnectionCut("no answer")  # a retry may succeed
        return reply

    try:
        answer = asked_again(ask)
    except PeerUnreachable as error:
        if not isinstance(error, ConnectionCut) and not isinstance(error.__cause__, _RESET):
            raise
        answer = Stranger.NOBODY  # the peer may have closed before our request was sent
    if isinstance(answer, MetastoreReply):
        store = decode_metastore(answer.meta, groups=False)
        is_member = store.data_nodes or store.meta_nodes
        return PeerKind.CLUSTER_DATA_NODE if is_member else PeerKind.SERVER
    if answer is Stranger.HTTP:
        return PeerKind.HTTP
    if tls is None and (
        answer is Stranger.TLS or probe_tls(address, timeout_s=timeout_s, route=route)
    ):
        return PeerKind.TLS
    raise PeerUnreachable(
        f"{route.named(address)}: accepts connections and closes them without an answer",
        hint=NOBODY_BEHIND,
    )
