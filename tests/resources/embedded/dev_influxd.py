"""A dev server in the clothes of the `Influxd` that tests ask: same questions, same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resources.embedded.data.node import DataNode
from resources.embedded.server import EmbeddedServer
from tests.influxd import Influxd


class DevInfluxd(Influxd):
    """Speaks to a dev server, or to one data node, over the same ports as to a real one."""

    def __init__(self, directory: Path, node: DataNode | None = None) -> None:
        super().__init__(directory)
        self._server = EmbeddedServer(directory) if node is None else None
        self.node = node or self._own.node
        self.http_addr, self.bind_addr = self.node.http_addr, self.node.tcp_addr
        self.data_dir = directory / "data"

    def __enter__(self) -> DevInfluxd:
        self.start()
        return self

    @property
    def _own(self) -> EmbeddedServer:
        assert self._server is not None
        return self._server

    @property
    def running(self) -> bool:
        return self.node.running

    @property
    def log(self) -> list[str]:
        """What its snapshotter would have logged."""
        return self.node.snapshotter.log

    def start(self) -> None:
        if self._server is not None:
            self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def query(
        self, q: str, *, db: str | None = None, rp: str | None = None, epoch: str | None = "ns"
    ) -> list[dict[str, Any]]:
        # The only statement of our scenarios that a dev server does not know.
        return (
            []
            if q.startswith("CREATE SUBSCRIPTION")
            else super().query(q, db=db, rp=rp, epoch=epoch)
        )
