"""DevServer: a single InfluxDB server of 1.x in this process, as `EmbeddedCluster` is a cluster.

    with DevServer(directory) as server:
        server.query("CREATE DATABASE telegraf")
        server.write("telegraf", "cpu,host=a usage=1 1600000000000000000")
        client = SnapshotterClient(server.tcp_addr)

What it stands for: influxd 1.8, whose imports are not limited in size.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from resources.embedded.data.http import Settings
from resources.embedded.data.node import DataNode
from resources.embedded.meta.auth import MetaAuth
from resources.embedded.meta.group import LocalMeta
from resources.embedded.meta.state import MetaState
from resources.embedded.ports import Ports

VERSION = "1.8.10"


class EmbeddedServer:
    """One server, started and stopped as often as wanted; its files and ports stay.

    Args:
        directory: created where missing; a server that is there goes on.
        ports: HTTP and TCP; 0 for those of last time, or free ones.
        version: what it says it is.
        auth: who may read and write over HTTP.

    Attributes:
        node: the server itself, with its faults: `node.tcp.faults`, `node.snapshotter.faults`.

    Raises:
        UsageError: the directory holds something else.
        AddressTaken: another program has a port meanwhile.
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
        """host:port of the HTTP API (8086 elsewhere)."""
        return self.node.http_addr

    @property
    def tcp_addr(self) -> str:
        """host:port of the snapshotter service (8088 elsewhere)."""
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
        """Write line protocol; raises what `PointsWriter.write_body` does."""
        values = {"db": database, "rp": policy, "precision": precision}
        self.node.writer.write_body(lines.encode(), values)

    def query(self, text: str, *, database: str = "") -> Mapping[str, Any]:
        """The JSON of /query, times in nanoseconds."""
        return self.node.executor.run(text, database=database, epoch="ns")
