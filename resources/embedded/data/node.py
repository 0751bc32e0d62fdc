"""One data node: a TCP port (8088) that several services share, and HTTP (8086).

Source: influxdb-cluster tcp/mux.go and coordinator/handler.go; influxdb
services/httpd/handler.go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from resources.embedded.data.coordinator_service import CoordinatorService
from resources.embedded.data.copies import Copies, Neighbours
from resources.embedded.data.executor import Executor
from resources.embedded.data.http import DataHTTP, Settings
from resources.embedded.data.snapshotter_service import SnapshotterService
from resources.embedded.data.writes import PointsWriter
from resources.embedded.listener import Line, Listener
from resources.embedded.meta.group import LocalMeta, SharedMeta
from resources.embedded.shards.store import ShardStore
from resources.embedded.status import DataNodeStatus
from resources.embedded.web import JSON, Reply, Request, serve_http
from resources.model import NodeID
from resources.protocol import coordinator, snapshotter

MUX_TIMEOUT_S = 30.0


class DataNode:
    """A data node, or a single server if its metastore is a `LocalMeta`.

    It can be stopped and started; its files and ports stay.

    Args:
        directory: the directory of its shards.
        meta: its access to the metadata.
        ports: HTTP and TCP; 0 for free ones.
        neighbours: the data nodes that are up, including itself.

    Attributes:
        meta: as given; a `NodeView` may get changes late.
    """

    def __init__(
        self,
        directory: Path,
        meta: SharedMeta,
        ports: tuple[int, int],
        neighbours: Callable[[], Sequence[DataNode]],
        settings: Settings,
    ) -> None:
        self.running = False
        self._directory = directory
        self.meta = meta
        self._neighbours = neighbours
        self._settings = settings
        self._single = isinstance(meta, LocalMeta)
        self.http = Listener(ports[0], self._serve_http)
        self.tcp = Listener(ports[1], self._serve_tcp)
        self._open()

    def _open(self) -> None:
        self._closed = False
        self.store = ShardStore(self._directory, clock=time.time_ns)
        around = Neighbours(
            self.store,
            lambda: None if self._single else self.id,
            self._store_of,
            lambda: [node.store for node in self._neighbours()],
        )
        copies = Copies(self.meta, around)
        self.writer = PointsWriter(self.meta, copies)
        self.executor = Executor(self.meta, copies, self.store, self.writer)
        self.snapshotter = SnapshotterService(self.store, self.meta)
        self.coordinator = CoordinatorService(
            self.store, lambda: (self.id, self.tcp_addr), self.executor.run_here
        )
        self._http = DataHTTP(self.store, self.meta, self.writer, self.executor, self._settings)

    # --- identity ---------------------------------------------------------------------------

    @property
    def http_addr(self) -> str:
        return self.http.address

    @property
    def tcp_addr(self) -> str:
        return self.tcp.address

    @property
    def id(self) -> NodeID:
        """The ID of its TCP address in the metastore; 0 if the metastore does not list it."""
        for node in self.meta.metastore.data_nodes:
            if node.tcp_addr == self.tcp_addr:
                return node.id
        return NodeID(0)

    # --- start and stop ---------------------------------------------------------------------

    def start(self) -> None:
        """Begin to answer; opens the shards again if the node was stopped."""
        if self._closed:
            faults = self.snapshotter.faults
            self._open()
            self.snapshotter.faults = faults
        self.running = True
        self.tcp.start()
        self.http.start()

    def stop(self) -> None:
        self.running = False
        self.tcp.stop()
        self.http.stop()
        self.store.close()
        self._closed = True

    def count_as_restarted(self) -> None:
        """Answer as a new process does, like a node that is back before anyone asks it."""
        self._http.started_ns = time.time_ns()

    def _store_of(self, node_id: NodeID) -> ShardStore | None:
        return next((node.store for node in self._neighbours() if node.id == node_id), None)

    # --- connections ------------------------------------------------------------------------

    def _serve_http(self, line: Line) -> None:
        serve_http(line, self._http.answer)

    def _serve_tcp(self, line: Line) -> None:
        """Serve the service of the first byte.

        At an unknown byte a single server closes with bytes unread, which resets the connection;
        a cluster's node takes such a connection for HTTP.
        """
        first = line.peek(MUX_TIMEOUT_S)
        if first == snapshotter.MUX_HEADER:
            line.recv(1)
            self.snapshotter.serve(line)
        elif first and not self._single:
            if first == coordinator.MUX_HEADER:
                line.recv(1)
                self.coordinator.serve(line)
            else:
                serve_http(line, self._answer_mux)

    def _answer_mux(self, request: Request) -> Reply:
        if request.path != "/status":
            return Reply(200)
        store = self.meta.metastore
        host, _, port = self.tcp_addr.rpartition(":")
        metas = tuple(node.addr for node in store.meta_nodes)
        status = DataNodeStatus(
            hostname=host,
            tcp_bind=f":{port}",
            tcp_addr=self.tcp_addr,
            http_addr=self.http_addr,
            node_status="joined" if self.id and metas else "disjoined",
            meta_addrs=metas,
        )
        return Reply(200, status.encode(), JSON)
