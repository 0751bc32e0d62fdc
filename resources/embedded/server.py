"""EmbeddedServer: a single InfluxDB 1.x server in this process.

    with EmbeddedServer(directory) as server:
        server.query("CREATE DATABASE telegraf")
        server.write("telegraf", "cpu,host=a usage=1 1600000000000000000")
        client = SnapshotterClient(server.tcp_addr)

It models influxd 1.8, whose imports have no size limit.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from resources.embedded.data.http import Settings
from resources.embedded.data.node import DataNode
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.meta.group import LocalMeta
from resources.embedded.meta.state import MetaState
from resources.embedded.ports import Ports

VERSION = "1.8.10"


class EmbeddedServer:
    """One server that can be stopped and started again; its files and ports stay.

    Args:
        directory: created if missing; an existing server continues.
        ports: HTTP and TCP; 0 for the previous ones, or free ones.
        version: the version that the server reports.
        auth: the authentication over HTTP.

    Attributes:
        node: the node behind it, with its faults: `node.tcp.faults`, `node.snapshotter.faults`.

    Raises:
        UsageError: the directory has other files.
        AddressTaken: another program uses a port.
    """

    def __init__(
        self,
        directory: Path,
        *,
        ports: tuple[int, int] = (0, 0),
        version: str = VERSION,
        auth: MetaAuth | None = None,
    ) -> None:
        self.directory = directory
        state = MetaState(directory / "meta")
        if not state.metastore.cluster_id:
            fresh = replace(state.metastore, cluster_id=secrets.randbits(63))
            state.install(fresh, index=fresh.index, term=0)
        self.meta = LocalMeta(state)
        remembered = Ports.remembered(directory, 0, 1).data[0]
        http, tcp = (given or last for given, last in zip(ports, remembered, strict=True))
        settings = Settings(version, auth or MetaAuth())
        self.node = DataNode(directory, self.meta, (http, tcp), lambda: [self.node], settings)
        Ports((), ((self.node.http.port, self.node.tcp.port),)).remember(directory)

    @property
    def http_addr(self) -> str:
        """host:port of the HTTP API (8086 on other servers)."""
        return self.node.http_addr

    @property
    def tcp_addr(self) -> str:
        """host:port of the snapshotter service (8088 on other servers)."""
        return self.node.tcp_addr

    def __enter__(self) -> EmbeddedServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if not self.node.running:
            self.node.start()

    def stop(self) -> None:
        self.node.stop()

    def write(self, database: str, lines: str, *, policy: str = "", precision: str = "ns") -> None:
        """Write line protocol, as `PointsWriter.write_body`."""
        values = {"db": database, "rp": policy, "precision": precision}
        self.node.writer.write_body(lines.encode(), values)

    def query(self, text: str, *, database: str = "") -> Mapping[str, Any]:
        """The JSON of /query, times in nanoseconds."""
        return self.node.executor.run(text, database=database, epoch="ns")
