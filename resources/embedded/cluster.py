"""EmbeddedCluster: meta and data nodes in one process, on loopback, with persistent files.

    with EmbeddedCluster(directory, meta_nodes=3, data_nodes=3) as cluster:
        cluster.query("CREATE DATABASE telegraf")
        cluster.write("telegraf", "cpu,host=a usage=1 1600000000000000000")
        client = MetaClient(cluster.meta[0].http_addr)

The first start chooses free ports, and later starts use the same ones. Faults are set per node
(`data[0].tcp.faults`, `data[0].snapshotter.faults`) or by the methods here.

It models influxdb-cluster 1.8.11-c1.2.0.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from resources.embedded.data.http import Settings
from resources.embedded.data.node import DataNode
from resources.embedded.listener import HOST
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.meta.changes import without_owners
from resources.embedded.meta.group import MetaGroup, NodeView
from resources.embedded.meta.node import VERSION, MetaNode, Surroundings
from resources.embedded.meta.state import EMPTY, MetaState
from resources.embedded.ports import Ports
from resources.embedded.shards.line_protocol import parse_lines
from resources.errors import ShardkeeperError, UsageError
from resources.model import NodeID, NodeInfo, ShardID
from resources.protocol.commands import Command
from resources.protocol.meta_api import OwnerStatus

MAX_NODES = 32


class EmbeddedCluster:
    """A cluster for demonstrations and tests; all of its state is below `directory`.

    Args:
        directory: created if missing; an existing cluster continues.
        meta_nodes: the number of meta nodes.
        data_nodes: the number of data nodes.
        ports: fixed ports; by default free ones.
        auth: the authentication of meta nodes, and of data nodes over HTTP; see `MetaAuth`.
        hostname: the host that nodes advertise, as in a network with names of its own.

    Attributes:
        meta: the meta nodes, running or not.
        data: the data nodes, running or not; their IDs follow those of the meta nodes.
        group: the agreed metastore; `group.poison` has the commands that would have killed a
            real cluster.

    Raises:
        UsageError: the numbers are out of range, or differ from the directory's cluster.
        AddressTaken: another program uses a port.
    """

    def __init__(
        self,
        directory: Path,
        meta_nodes: int = 1,
        data_nodes: int = 3,
        *,
        ports: Ports | None = None,
        auth: MetaAuth | None = None,
        hostname: str = HOST,
    ) -> None:
        if not (0 < meta_nodes <= MAX_NODES and 0 < data_nodes <= MAX_NODES):
            raise UsageError(f"a cluster has 1 to {MAX_NODES} nodes of each kind")
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        auth = auth or MetaAuth()
        ports = ports or Ports.remembered(directory, meta_nodes, data_nodes)
        # There is no raft; a socket that does not listen reserves the port.
        self._raft = [_reserved(raft) for _, raft in ports.meta]
        raft_addrs = [f"{HOST}:{sock.getsockname()[1]}" for sock in self._raft]
        states = [MetaState(directory / f"meta{at + 1}") for at in range(meta_nodes)]
        self.group = MetaGroup(directory, states, raft_addrs)
        around = Surroundings(
            self._alive, self._listed_shards, self._copy_shard, self._remove_shard
        )
        self.meta = tuple(
            MetaNode(at, self.group, states[at], raft_addrs[at], http, auth, around)
            for at, (http, _) in enumerate(ports.meta)
        )
        settings = Settings(VERSION, auth)
        self.data = tuple(
            DataNode(
                directory / f"data{at + 1}", NodeView(self.group), pair, self._data_up, settings
            )
            for at, pair in enumerate(ports.data)
        )
        for node in self.meta:
            node.listener.advertised = hostname
        for node in self.data:
            node.http.advertised = node.tcp.advertised = hostname
        Ports(
            tuple(
                (node.listener.port, sock.getsockname()[1])
                for node, sock in zip(self.meta, self._raft, strict=True)
            ),
            tuple((node.http.port, node.tcp.port) for node in self.data),
        ).remember(directory)

    # --- start and stop ---------------------------------------------------------------------

    def __enter__(self) -> EmbeddedCluster:
        try:
            self.start()
        except BaseException:
            self.stop()  # the nodes that have started
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the nodes that are not running; the nodes of a new cluster join each other."""
        for node in self.meta:
            if not node.running:
                node.start()
        self._join_all()
        for node in self.data:
            if not node.running:
                node.start()

    def stop(self) -> None:
        """Stop all nodes; `start` starts them again, in this process or another."""
        for node in (*self.data, *self.meta):
            node.stop()
        for sock in self._raft:
            sock.close()

    def _join_all(self) -> None:
        store = self.group.metastore
        meta = tuple(
            NodeInfo(NodeID(at + 1), node.http_addr, node.raft_addr)
            for at, node in enumerate(self.meta)
        )
        data = tuple(
            NodeInfo(NodeID(len(meta) + at + 1), node.http_addr, node.tcp_addr)
            for at, node in enumerate(self.data)
        )
        if not store.meta_nodes and not store.data_nodes and not store.databases:
            fresh = replace(
                EMPTY,
                cluster_id=secrets.randbits(63),
                meta_nodes=meta,
                data_nodes=data,
                max_node_id=len(meta) + len(data),
            )
            self.group.change(lambda _: fresh)

    # --- single nodes -------------------------------------------------------------------------

    def stop_node(self, at: int) -> None:
        """Stop a data node, by position; it misses the writes until its next start."""
        self.data[at].stop()

    def start_node(self, at: int) -> None:
        self.data[at].start()

    def stop_meta_node(self, at: int) -> None:
        """Stop a meta node; if it was the leader, another is elected if enough are up."""
        self.meta[at].stop()

    def start_meta_node(self, at: int) -> None:
        self.meta[at].start()

    def change_leader(self, at: int | None = None) -> None:
        """Make this or another meta node the leader; leases are lost.

        Raises:
            NoLeader: too few meta nodes are up.
        """
        for node in self.meta:
            node.leases.forget()
        self.group.move_leader(at)

    def stale(self, at: int, stale: bool = True) -> None:
        """Make a follower miss changes of the metastore, or catch up."""
        self.group.lag(at, stale)

    # --- faults -------------------------------------------------------------------------------

    def cut_after(self, n_bytes: int | None, at: int | None = None, *, reset: bool = False) -> None:
        """End every reply on TCP ports after `n_bytes`; `None` ends the fault."""
        for node in self._data_nodes(at):
            node.tcp.faults.cut_after, node.tcp.faults.reset = n_bytes, reset

    def refuse(self, refuse: bool = True, at: int | None = None) -> None:
        """Reset connections to data nodes as soon as they are made."""
        for node in self._data_nodes(at):
            node.tcp.faults.refuse = node.http.faults.refuse = refuse

    def diverge(self, at: int, shard_id: ShardID, lines: str) -> None:
        """Write points into one node's replica of a shard only.

        Raises:
            ShardUnknown, PartialWrite: as `ShardStore.write`.
            UsageError: the lines are not points.
        """
        parsed = parse_lines(lines.encode(), now_ns=0)
        if parsed.error is not None:
            raise UsageError(parsed.error)
        self.data[at].store.write(shard_id, parsed.points)

    def disown(self, shard_id: ShardID) -> None:
        """Remove all owners of a shard; an import of metadata leaves shards like that."""
        self.group.change(lambda store: without_owners(store, shard_id))

    def delay(self, seconds: float, at: int | None = None) -> None:
        """Delay the metastore's changes on data nodes; 0: no delay."""
        for node in self._data_nodes(at):
            assert isinstance(node.meta, NodeView)  # noqa: S101 - a cluster's nodes have that
            node.meta.delay(seconds)

    def before_command(self, hook: Callable[[Command], None] | None) -> None:
        """Call a hook between a client's last read and its command.

        The hook may send commands of its own (`cluster.group.execute`), for which it is not
        called again.
        """
        self.group.before_command = None if hook is None else _once_inside(hook)

    # --- writes and queries ---------------------------------------------------------------------

    def write(self, database: str, lines: str, *, policy: str = "", precision: str = "ns") -> None:
        """Write line protocol through the first data node that is up.

        Raises:
            ShardkeeperError: as `PointsWriter.write_body`, or no data node is up.
        """
        values = {"db": database, "rp": policy, "precision": precision}
        self._first_up().writer.write_body(lines.encode(), values)

    def query(self, text: str, *, database: str = "", at: int | None = None) -> Mapping[str, Any]:
        """Query a data node, by default the first that is up; returns the JSON of /query."""
        node = self._first_up() if at is None else self.data[at]
        return node.executor.run(text, database=database, epoch="ns")

    def _first_up(self) -> DataNode:
        up = self._data_up()
        if not up:
            raise ShardkeeperError("no data node is up", hint="start one: start_node")
        return up[0]

    # --- requests between nodes -----------------------------------------------------------------

    def _data_up(self) -> Sequence[DataNode]:
        return [node for node in self.data if node.running]

    def _data_nodes(self, at: int | None) -> Sequence[DataNode]:
        return self.data if at is None else (self.data[at],)

    def _node_at(self, tcp_addr: str) -> DataNode | None:
        return next((node for node in self._data_up() if node.tcp_addr == tcp_addr), None)

    def _alive(self) -> frozenset[str]:
        data = {node.tcp_addr for node in self._data_up()}
        return frozenset(data | {node.raft_addr for node in self.meta if node.running})

    def _listed_shards(self, tcp_addr: str) -> Mapping[ShardID, OwnerStatus] | None:
        node = self._node_at(tcp_addr)
        if node is None or node.tcp.faults.refuse:
            return None
        return node.coordinator.listed()

    def _copy_shard(
        self, source: str, target: str, database: str, policy: str, shard_id: ShardID
    ) -> str:
        node = self._node_at(target)
        if node is None:
            return f"dial tcp {target}: connect: connection refused"
        return node.coordinator.copy(source, database, policy, shard_id)

    def _remove_shard(self, tcp_addr: str, shard_id: ShardID) -> str:
        node = self._node_at(tcp_addr)
        if node is None:
            return f"dial tcp {tcp_addr}: connect: connection refused"
        return node.coordinator.remove(shard_id)


def _reserved(port: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((HOST, port))
    return sock


def _once_inside(hook: Callable[[Command], None]) -> Callable[[Command], None]:
    inside = threading.local()

    def guarded(command: Command) -> None:
        if not getattr(inside, "there", False):
            inside.there = True
            try:
                hook(command)
            finally:
                inside.there = False

    return guarded
