"""One InfluxDB server through both its doors: TCP for shards and metastore, HTTP for facts."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

from resources.clients.http import InfluxHTTP
from resources.clients.settled import settled
from resources.clients.snapshotter import ShardStream, SnapshotterClient
from resources.clients.source import Holdings, ShardCopy, SourceFacts
from resources.errors import CredentialsRefused, PeerUnreachable, UsageError, WireError
from resources.model import Metastore, ShardID
from resources.protocol.meta import decode_metastore
from resources.protocol.server_vars import ServerVars

LOOKS = 2


class Server:
    """A single InfluxDB 1.5 to 1.12 server.

    Args:
        tcp: its snapshotter (8088), which asks for no password.
        http: its HTTP API (8086); without it, changes cannot be detected.
    """

    def __init__(self, tcp: SnapshotterClient, http: InfluxHTTP | None) -> None:
        self.tcp = tcp
        self.http = http
        self._known_start: int | None = None

    @property
    def kind(self) -> Literal["server"]:
        return "server"

    @property
    def address(self) -> str:
        return str(self.tcp.tcp_addr)

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes, to be stored unchanged, and decoded; read twice at least."""
        raw = settled(self.tcp.metastore, self.address)
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

    def about(self) -> SourceFacts:
        """Version and clock alone, by a small request; nothing if HTTP is closed to us."""
        try:
            said = self.http.ping() if self.http is not None else None
        except (PeerUnreachable, CredentialsRefused):
            said = None
        return SourceFacts(said.version, said.clock_ns) if said is not None else SourceFacts()

    def facts(self, *, activity: bool = False) -> tuple[SourceFacts, WireError | None]:
        """What HTTP tells, or nothing and the reason why.

        Backups go on without it, as full copies; so a closed HTTP port is not an error here.

        Raises:
            UsageError: the HTTP address is another server's.
        """
        if self.http is None:
            return SourceFacts(), None
        version = ""
        try:
            version = self.http.ping().version
            said = self._vars_of_this_server(self.http, activity)
        except (PeerUnreachable, CredentialsRefused) as error:
            return SourceFacts(version), error
        return _facts(version, said), None

    def figures(self, node: str = "") -> SourceFacts:
        """As `facts`; whose figures these are is looked at again only if another process tells.

        Raises:
            WireError: HTTP does not answer.
            UsageError: the HTTP address is another server's by now.
        """
        if self.http is None:
            return SourceFacts()
        said = self.http.server_vars(activity=False)
        if said.started_ns is None or said.started_ns != self._known_start:
            said = self._vars_of_this_server(self.http, activity=False)
        return _facts("", said)

    def _vars_of_this_server(self, http: InfluxHTTP, activity: bool) -> ServerVars:
        """What HTTP tells, once it is sure that both doors lead to one server.

        Raises:
            UsageError: HTTP tells of shards that the other door does not have.
        """
        first = ShardID(0)
        for _ in range(LOOKS):
            said = http.server_vars(activity=activity)
            here = {p.shard_id: (p.database, p.policy) for p in self.tcp.shard_paths()}
            strange = [
                shard_id
                for shard_id, stats in said.shards.items()
                if here.get(shard_id) != (stats.database, stats.policy)
            ]
            if not strange:  # else a shard may just have been dropped, so look again
                self._known_start = said.started_ns
                return said
            first = min(strange)
        raise self.other_server(f"it tells of shard {first}, which is not there")

    def other_server(self, why: str) -> UsageError:
        """The two addresses belong to different servers."""
        return UsageError(
            f"{self.http.http_addr if self.http else ''} is not the HTTP address of "
            f"{self.address}: {why}",
            hint="name the right one with -http; -http none does without, and copies everything",
        )


def _facts(version: str, said: ServerVars) -> SourceFacts:
    return SourceFacts(version, said.current_time_ns, said.started_ns, said.shards)
