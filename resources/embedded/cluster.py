"""DevCluster: meta and data nodes in one process, on loopback, with files that stay.

    with DevCluster(directory, meta_nodes=3, data_nodes=3) as cluster:
        cluster.query("CREATE DATABASE telegraf")
        cluster.write("telegraf", "cpu,host=a usage=1 1600000000000000000")
        client = MetaClient(cluster.meta[0].http_addr)

Ports are free ones at the first start and the same ever after. What goes wrong is chosen per
node (`data[0].tcp.faults`, `data[0].snapshotter.faults`) or by the methods here.

What it stands for: influxdb-cluster 1.8.11-c1.2.0.
"""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

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
    """A cluster for demonstrations and tests; files below `directory` are all there is.

    Args:
        directory: created where missing; a cluster that is there goes on.
        meta_nodes: how many meta nodes; one is enough.
        data_nodes: how many data nodes.
        ports: fixed ones instead of free ones.
        auth: who may ask meta nodes, and data nodes over HTTP; see `MetaAuth`.
        hostname: what nodes advertise, as they do where their own network knows them by name.

    Attributes:
        meta: the meta nodes, whether up or not.
        data: the data nodes alike; their IDs follow those of the meta nodes.
        group: what the meta nodes agree on; `group.poison` has the commands that would have
            killed a real cluster.

    Raises:
        UsageError: numbers that make no cluster, or another one than the directory's.
        AddressTaken: another program has a port meanwhile.
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
        # No raft is spoken; a socket that does not listen keeps the number free of others.
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

    # --- life -------------------------------------------------------------------------------

    def __enter__(self) -> EmbeddedCluster:
        try:
            self.start()
        except BaseException:
            self.stop()  # what had started
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start what is not running; a new cluster's nodes join each other."""
        for node in self.meta:
            if not node.running:
                node.start()
        self._join_all()
        for node in self.data:
            if not node.running:
                node.start()

    def stop(self) -> None:
        """Stop all nodes; `start` brings them back, in this process or another."""
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

    # --- nodes that come and go ---------------------------------------------------------------

    def stop_node(self, at: int) -> None:
        """Stop a data node, by position; it misses what is written meanwhile."""
        self.data[at].stop()

    def start_node(self, at: int) -> None:
        self.data[at].start()

    def stop_meta_node(self, at: int) -> None:
        """Stop a meta node; if it led, another does, and nobody if too few are left."""
        self.meta[at].stop()

    def start_meta_node(self, at: int) -> None:
        self.meta[at].start()

    def change_leader(self, at: int | None = None) -> None:
        """Have this or another meta node lead; leases are forgotten.

        Raises:
            NoLeader: too few are up.
        """
        for node in self.meta:
            node.leases.forget()
        self.group.move_leader(at)

    def stale(self, at: int, stale: bool = True) -> None:
        """A meta node that follows stops learning of changes, or catches up."""
        self.group.lag(at, stale)

    # --- bad days -----------------------------------------------------------------------------

    def cut_after(self, n_bytes: int | None, at: int | None = None, *, reset: bool = False) -> None:
        """Replies on TCP ports end after so many bytes; `None` mends the lines."""
        for node in self._data_nodes(at):
            node.tcp.faults.cut_after, node.tcp.faults.reset = n_bytes, reset

    def refuse(self, refuse: bool = True, at: int | None = None) -> None:
        """Connections to data nodes are reset as soon as they are made."""
        for node in self._data_nodes(at):
            node.tcp.faults.refuse = node.http.faults.refuse = refuse

    def diverge(self, at: int, shard_id: ShardID, lines: str) -> None:
        """Write points into one node's copy of a shard only.

        Raises:
            ShardUnknown, PartialWrite
            UsageError: lines that are no points.
        """
        parsed = parse_lines(lines.encode(), now_ns=0)
        if parsed.error is not None:
            raise UsageError(parsed.error)
        self.data[at].store.write(shard_id, parsed.points)

    def disown(self, shard_id: ShardID) -> None:
        """Take all owners from a shard, as an import of metadata leaves it."""
        self.group.change(lambda store: without_owners(store, shard_id))

    def delay(self, seconds: float, at: int | None = None) -> None:
        """Data nodes know of changes of the metastore so much later; 0: at once."""
        for node in self._data_nodes(at):
            assert isinstance(node.meta, NodeView)  # noqa: S101 - a cluster's nodes have that
            node.meta.delay(seconds)

    def before_command(self, hook: Callable[[Command], None] | None) -> None:
        """Have something happen between a client's last look and its command.

        The hook may send commands of its own (`cluster.group.execute`), for which it is not
        called again.
        """
        self.group.before_command = None if hook is None else _once_inside(hook)

    # --- what a demonstration needs -------------------------------------------------------------

    def write(self, database: str, lines: str, *, policy: str = "", precision: str = "ns") -> None:
        """Write line protocol through the first data node that is up.

        Raises:
            Refusal: and what `PointsWriter.write_body` raises.
        """
        values = {"db": database, "rp": policy, "precision": precision}
        self._first_up().writer.write_body(lines.encode(), values)

    def query(self, text: str, *, database: str = "", at: int | None = None) -> Mapping[str, Any]:
        """Ask a data node, the first that is up if none is named; the JSON of /query."""
        node = self._first_up() if at is None else self.data[at]
        return node.executor.run(text, database=database, epoch="ns")

    def _first_up(self) -> DataNode:
        up = self._data_up()
        if not up:
            raise ShardkeeperError("no data node is up", hint="start one: start_node")
        return up[0]

    # --- what nodes know of each other ----------------------------------------------------------

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
