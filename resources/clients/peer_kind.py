"""Who listens at an address, before anything else is said to it."""

from __future__ import annotations

from enum import StrEnum
from ssl import SSLContext

from resources.clients.address import split_host_port
from resources.clients.address_map import NO_MAP, AddressMap
from resources.clients.connection import Connection, StallLimit
from resources.clients.cut_again import asked_again
from resources.clients.snapshotter import IDLE_TIMEOUT_S, SNAPSHOTTER_PORT
from resources.clients.tls_probe import probe_tls
from resources.errors import ConnectionCut, PeerUnreachable
from resources.protocol import snapshotter as requests
from resources.protocol.meta import decode_metastore
from resources.protocol.snapshotter_replies import MetastoreReply, Stranger, who_answers

NOBODY_BEHIND = (
    "is the port published, or forwarded, with nobody listening behind it? InfluxDB listens on "
    'its own 127.0.0.1:8088 unless bind-address = ":8088" stands at the top of its configuration '
    "(INFLUXDB_BIND_ADDRESS=:8088 in a container)"
)


_RESET = (ConnectionResetError, BrokenPipeError, ConnectionAbortedError)


class PeerKind(StrEnum):
    """Who listens at an address, as far as one question can tell."""

    SERVER = "server"
    CLUSTER_DATA_NODE = "cluster-data-node"
    HTTP = "http"
    TLS = "tls"
    """Something that speaks TLS, and was not spoken to in TLS."""


def probe_kind(
    tcp_addr: str,
    *,
    timeout_s: float = IDLE_TIMEOUT_S,
    tls: SSLContext | None = None,
    route: AddressMap = NO_MAP,
) -> PeerKind:
    """Find out who listens, by asking for the metastore.

    Every snapshotter answers that, a data node's metastore names data nodes, and an HTTP server
    says that this is no HTTP. Nobody is sent what he would answer by a reset, with which some
    tunnels end, or would put into his log.

    Raises:
        PeerUnreachable: nobody listens, nobody answers in time, or the connection is closed
            without an answer, as published ports do with nobody behind them.
        BadReply: something else is there.

    Source: influxdb tcp/mux.go; Go, net/http (badRequestError), crypto/tls.
    """
    address = split_host_port(tcp_addr, default_port=SNAPSHOTTER_PORT)
    answer: MetastoreReply | Stranger

    def ask() -> MetastoreReply | Stranger:
        with Connection(address, StallLimit(timeout_s), tls=tls, route=route) as connection:
            connection.phase("asking who listens")
            connection.sendall(requests.MUX_HEADER + requests.MetastoreBackup().encode())
            reply = connection.receive(who_answers)
            connection.finished()
        if reply is Stranger.NOBODY:
            raise ConnectionCut("no answer")  # perhaps it was there a moment ago
        return reply

    try:
        answer = asked_again(ask)
    except PeerUnreachable as error:
        if not isinstance(error, ConnectionCut) and not isinstance(error.__cause__, _RESET):
            raise
        answer = Stranger.NOBODY  # perhaps before our request was sent
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
