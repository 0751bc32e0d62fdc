"""One InfluxDB server through both its doors: TCP for shards and metastore, HTTP for facts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

from resources.clients.http import InfluxHTTP
from resources.clients.snapshotter import ShardStream, SnapshotterClient
from resources.clients.source import Holdings, ShardCopy, SourceFacts
from resources.errors import CredentialsRefused, PeerUnreachable, WireError
from resources.model import Metastore, ShardID
from resources.protocol.meta import decode_metastore


class Server:
    """A single InfluxDB 1.5 to 1.12 server.

    Args:
        tcp: its snapshotter (8088), which asks for no password.
        http: its HTTP API (8086); without it, changes cannot be detected.
    """

    def __init__(self, tcp: SnapshotterClient, http: InfluxHTTP | None) -> None:
        self.tcp = tcp
        self.http = http

    @property
    def kind(self) -> Literal["server"]:
        return "server"

    @property
    def address(self) -> str:
        return str(self.tcp.tcp_addr)

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes, to be stored unchanged, and decoded."""
        raw = self.tcp.metastore()
        return raw, decode_metastore(raw)

    def shards_on_disk(self) -> frozenset[ShardID]:
        """Shards that the server really has; its metastore also knows planned ones."""
        return frozenset(path.shard_id for path in self.tcp.shard_paths())

    def holdings(self, metastore: Metastore) -> Holdings:
        """What is on the server's disk; it is the only node."""
        here = (ShardCopy(self.address),)
        return Holdings(dict.fromkeys(self.shards_on_disk(), here))

    def has_shard(self, shard_id: ShardID) -> bool:
        return shard_id in self.shards_on_disk()

    def open_shard(
        self, shard_id: ShardID, *, node: str = "", since_ns: int | None = None
    ) -> AbstractContextManager[ShardStream]:
        return self.tcp.open_shard(shard_id, since_ns=since_ns)

    def abort(self) -> None:
        """Break off every request that is under way, from any thread."""
        self.tcp.abort()

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        self.tcp.resume()

    def facts(self) -> tuple[SourceFacts, WireError | None]:
        """What HTTP tells, or nothing and the reason why.

        Backups go on without it, as full copies; so a closed HTTP port is not an error here.
        """
        if self.http is None:
            return SourceFacts(), None
        try:
            ping = self.http.ping()
            said = self.http.server_vars()
        except (PeerUnreachable, CredentialsRefused) as error:
            return SourceFacts(), error
        return SourceFacts(ping.version, said.current_time_ns, said.shards), None
