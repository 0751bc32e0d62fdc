"""A cluster: its meta nodes give the metastore, its data nodes the shards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Literal

from resources.clients.address import NO_MAP, AddressMap
from resources.clients.backup_directories import Leftovers
from resources.clients.coordinator import CoordinatorClient
from resources.clients.http import InfluxHTTP
from resources.clients.meta import MetaClient
from resources.clients.newest_metastore import Newest
from resources.clients.peers import Crashes, Peer
from resources.clients.releases import ReleaseGate
from resources.clients.snapshotter import ShardStream, SnapshotterClient
from resources.clients.source import ReplicaInventory, ShardCopy, SourceFacts
from resources.clients.source_address import MIN_BYTES_PER_S, Address
from resources.clients.stable_metastore import settled
from resources.errors import (
    BadReply,
    CredentialsRefused,
    PeerRefused,
    PeerUnreachable,
    ShardkeeperError,
    UsageError,
    WireError,
    shown,
)
from resources.model import Metastore, ShardID, ShardInfo
from resources.protocol.meta import decode_metastore
from resources.protocol.meta_api import OwnerStatus

if TYPE_CHECKING:
    from ssl import SSLContext

MAX_NODES_AT_ONCE = 8
MUTE_S = 60.0
"""After a failed HTTP request to a node, none is sent for this long, whatever shard needs it."""
TLS_THERE = "if that port speaks TLS, use -data-tls"


class Cluster:
    """An influxdb-cluster, or a cluster with the same protocol, found through a meta node.

    Args:
        meta: the client of its meta nodes.
        timeout_s: how long a data node may be silent.
        min_bytes_per_s: the minimum rate of a data node over that time, once it answers.
        tls: how to encrypt port 8088; None if the data nodes do not.
        http: opens a data node's HTTP API (8086) at an address; None uses no HTTP.
        route: reachable addresses for the ones that nodes advertise.
    """

    def __init__(
        self,
        meta: MetaClient,
        *,
        timeout_s: float = 60.0,
        tls: SSLContext | None = None,
        http: Callable[[str], InfluxHTTP] | None = InfluxHTTP,
        route: AddressMap = NO_MAP,
        min_bytes_per_s: int = MIN_BYTES_PER_S,
    ) -> None:
        self.meta = meta
        self.http = http
        self._newest = Newest(meta)
        self._timeout_s = timeout_s
        self._min_bytes_per_s = min_bytes_per_s
        self.crashes = Crashes()
        self.reached_by: Address | None = None
        self.leftovers = Leftovers()  # none: clusters are based on later releases
        self._tls = tls
        self._route = route
        self._releases = ReleaseGate(meta, http)
        self._mutex = threading.Lock()
        self._snapshotters: dict[str, SnapshotterClient] = {}
        self._aborted = False
        self._http_addrs: dict[str, tuple[str, str]] = {}
        self._described: set[str] = set()
        self._starts: dict[str, int] = {}
        self._mute_until: dict[str, float] = {}

    @property
    def kind(self) -> Literal["cluster"]:
        return "cluster"

    @property
    def address(self) -> str:
        return self.meta.bind

    def about(self) -> SourceFacts:
        """The data nodes' versions; change detection on clusters needs no clock."""
        versions = {node.version for node in self.meta.members().data if node.version}
        return SourceFacts(", ".join(sorted(versions)))

    def facts(self, *, activity: bool = False) -> tuple[SourceFacts, WireError | None]:
        """As `about`: a cluster's figures are read from each node, by `figures`."""
        return self.about(), None

    def recall(self, version: str, first: Mapping[str, SourceFacts]) -> None:
        """As `BackupSource.recall`."""
        for node, facts in first.items():
            if facts.started_ns is not None:
                self._described.add(node)
                self._starts.setdefault(node, facts.started_ns)

    def figures(self, node: str) -> SourceFacts:
        """A data node's figures of its shards' caches and files; empty if it never gave any.

        Raises:
            WireError: the node gave figures before and does not answer now.
        """
        if time.monotonic() < self._mute_until.get(node, 0.0):
            return SourceFacts()
        try:
            with self.peer(node).exchange():
                reply = self._http_of(node).server_vars(activity=False)
        except (PeerUnreachable, CredentialsRefused, PeerRefused, BadReply, UsageError):
            if node in self._described:
                raise
            self._mute_until[node] = time.monotonic() + MUTE_S
            return SourceFacts()
        self._described.add(node)
        if reply.started_ns is not None:
            self._starts.setdefault(node, reply.started_ns)
        return SourceFacts("", reply.current_time_ns, reply.started_ns, reply.shards)

    def _is_restarted(self, node: str) -> bool | None:
        """Whether the node's process has restarted since its last figures; None: unknown."""
        before = self._starts.get(node)
        if before is None:
            return None
        try:
            now = self._http_of(node).server_vars(activity=False).started_ns
        except ShardkeeperError:
            return None
        self._starts[node] = now or before
        return None if now is None else now != before

    def _http_of(self, node: str) -> InfluxHTTP:
        """Open a data node's HTTP API.

        Raises:
            UsageError: its HTTP address is not known, or HTTP is turned off.
            WireError: the request for its address fails.
        """
        if self.http is None:
            raise UsageError("-http none")
        if not self._http_addrs:
            self._http_addrs = {
                member.tcp_addr: (member.http_scheme, member.http_addr)
                for member in self.meta.members().data
            }
        scheme, address = self._http_addrs.get(node, ("", ""))
        if not address:
            raise UsageError(f"the HTTP address of {node} is not known")
        endpoint = self.http(f"{scheme}://{address}" if scheme else address)
        if address not in endpoint.http_addr:
            raise UsageError(f"the HTTP address of {node} is not known")
        return endpoint

    def metastore(self) -> tuple[bytes, Metastore]:
        """Read the leader's metastore, never older than the other meta nodes' one.

        It is read at least twice, see `settled`.

        Raises:
            WireError: the leader does not answer, or its metastore is stale.
        """
        first = [self._newest.metastore()[0]]
        raw = settled(
            lambda: first.pop() if first else self.meta.metastore()[0],
            self.address,
        )
        return raw, decode_metastore(raw)

    def inventory(self, metastore: Metastore) -> ReplicaInventory:
        """List the shards on every data node's disk, with one request to each node.

        A node that does not answer is listed as silent, without an error.
        """
        copies: dict[ShardID, list[ShardCopy]] = {}
        silent: dict[str, WireError] = {}
        broken: dict[ShardID, dict[str, str]] = {}
        self.check_release()
        addresses = [node.tcp_addr for node in metastore.data_nodes]
        with ThreadPoolExecutor(min(MAX_NODES_AT_ONCE, len(addresses) or 1)) as pool:
            for address, found in zip(addresses, pool.map(self._list, addresses), strict=True):
                if isinstance(found, WireError):
                    silent[address] = found
                    continue
                for shard_id, status in found.items():
                    if status.err:
                        broken.setdefault(shard_id, {})[address] = shown(status.err)
                    else:
                        copies.setdefault(shard_id, []).append(_copy(address, status))
        found_copies = {shard_id: tuple(found) for shard_id, found in copies.items()}
        return ReplicaInventory(found_copies, silent, broken)

    def _list(self, address: str) -> Mapping[ShardID, OwnerStatus] | WireError:
        try:
            return self.coordinator(address).list_shards()
        except WireError as error:
            connected = error.__cause__ is None and "unknown host" not in error.what
            if self._tls is None and connected:  # and not answered
                error.hint = "; ".join([*filter(None, [error.hint]), TLS_THERE])
            return error

    def nodes_of(self, shard: ShardInfo, metastore: Metastore) -> tuple[str, ...]:
        """The nodes that should have a replica of the shard: its owners."""
        addresses = {node.id: node.tcp_addr for node in metastore.data_nodes}
        owners = (owner.node_id for owner in shard.owners)
        return tuple(addresses[owner] for owner in owners if owner in addresses)

    def http_endpoints(self, metastore: Metastore | None = None) -> tuple[InfluxHTTP, ...]:
        """The HTTP APIs of all data nodes, each once; empty if HTTP is not used.

        With -http given, the endpoints of all nodes are one.

        Raises:
            WireError: the metastore is not given, and cannot be read.
        """
        if self.http is None:
            return ()
        nodes = (metastore or self.metastore()[1]).data_nodes
        endpoints = map(self.http, (node.addr for node in nodes))
        return tuple({endpoint.base_url: endpoint for endpoint in endpoints}.values())

    def has_shard(self, shard_id: ShardID) -> bool:
        _, now = self.metastore()
        return any(place.shard_id == shard_id for place in now.places())

    def open_shard(
        self, shard_id: ShardID, *, node: str, since_ns: int | None = None
    ) -> AbstractContextManager[ShardStream]:
        return self.snapshotter(node).open_shard(shard_id, since_ns=since_ns)

    def coordinator(self, node: str) -> CoordinatorClient:
        """The client for changes to one data node's disk, by its TCP address."""
        self.check_release()
        return CoordinatorClient(
            node,
            timeout_s=self._timeout_s,
            min_bytes_per_s=self._min_bytes_per_s,
            tls=self._tls,
            route=self._route,
            before_change=self.meta.check_may_change,
            peer=self.peer(node),
        )

    def peer(self, node: str) -> Peer:
        """Whether a data node answers."""
        return self.snapshotter(node).peer

    def check_release(self) -> None:
        """Require, before the first call to a data node, that its calls have the known numbers.

        Raises:
            UnsupportedPeer: a member reports a release with other numbers.
            WireError: the meta nodes do not list the members.
        """
        self._releases.check()

    def snapshotter(self, node: str) -> SnapshotterClient:
        """The client for one data node's shards, by its TCP address."""
        with self._mutex:
            client = self._snapshotters.get(node)
            if client is None:
                client = SnapshotterClient(
                    node,
                    timeout_s=self._timeout_s,
                    min_bytes_per_s=self._min_bytes_per_s,
                    tls=self._tls,
                    route=self._route,
                    before_change=self.meta.check_may_change,
                    crashes=self.crashes,
                )
                client.peer.restarted = partial(self._is_restarted, node)
                if self._aborted:
                    client.abort()
                self._snapshotters[node] = client
            return client

    def abort(self) -> None:
        self._aborted = True
        self._for_each(SnapshotterClient.abort)

    def resume(self) -> None:
        self._aborted = False
        self._for_each(SnapshotterClient.resume)

    def _for_each(self, do: Callable[[SnapshotterClient], None]) -> None:
        with self._mutex:
            clients = list(self._snapshotters.values())
        for client in clients:
            do(client)


def _copy(node: str, status: OwnerStatus) -> ShardCopy:
    return ShardCopy(node, status.size_bytes, status.last_modified_ns, status.state == "cold")
