"""One InfluxDB server through both its doors: TCP for shards and metastore, HTTP for facts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from resources.clients.http import InfluxHTTP, ShardStats
from resources.clients.snapshotter import ShardStream, SnapshotterClient
from resources.errors import CredentialsRefused, PeerUnreachable, WireError
from resources.model import Metastore, ShardID
from resources.protocol.meta import decode_metastore


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says about itself over HTTP at one moment."""

    version: str = ""
    """Empty if HTTP did not answer."""
    clock_ns: int | None = None
    """Its own clock; file times inside shards come from the same one."""
    shards: Mapping[ShardID, ShardStats] = field(default_factory=dict[ShardID, ShardStats])


class Server:
    """A single InfluxDB 1.5 to 1.12 server.

    Args:
        tcp: its snapshotter (8088), which asks for no password.
        http: its HTTP API (8086); without it, changes cannot be detected.
    """

    kind = "server"

    def __init__(self, tcp: SnapshotterClient, http: InfluxHTTP | None) -> None:
        self.tcp = tcp
        self.http = http

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

    def open_shard(
        self, shard_id: ShardID, *, since_ns: int | None = None
    ) -> AbstractContextManager[ShardStream]:
        return self.tcp.open_shard(shard_id, since_ns=since_ns)

    def abort(self) -> None:
        """Break off every request that is under way, from any thread."""
        self.tcp.abort()

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        self.tcp.resume()

    def facts(self) -> tuple[ServerFacts, WireError | None]:
        """What HTTP tells, or nothing and the reason why.

        Backups go on without it, as full copies; so a closed HTTP port is not an error here.
        """
        if self.http is None:
            return ServerFacts(), None
        try:
            ping = self.http.ping()
            said = self.http.server_vars()
        except (PeerUnreachable, CredentialsRefused) as error:
            return ServerFacts(), error
        return ServerFacts(ping.version, said.current_time_ns, said.shards), None
