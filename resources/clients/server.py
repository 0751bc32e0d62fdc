"""One InfluxDB server through both of its ports: TCP for shards and metastore, HTTP for facts."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

from msgspec.structs import replace

from resources.clients.backup_directories import Leftovers, range_of
from resources.clients.http import InfluxHTTP
from resources.clients.http_facts import diagnosed_version, shards_known
from resources.clients.peers import Crashes, Peer
from resources.clients.snapshotter import ShardStream, SnapshotterClient
from resources.clients.source import ReplicaInventory, ShardCopy, SourceFacts
from resources.clients.source_address import Address
from resources.clients.stable_metastore import settled
from resources.errors import (
    ArchiveCorrupt,
    PeerClosedEarly,
    PeerUnreachable,
    UsageError,
    WireError,
)
from resources.model import Metastore, ShardID, ShardInfo
from resources.protocol.meta import decode_metastore
from resources.protocol.server_vars import ServerVars

MAX_ATTEMPTS = 2


class Server:
    """A single InfluxDB 1.5 to 1.12 server.

    Args:
        tcp: its snapshotter (8088), which has no authentication.
        http: its HTTP API (8086); without it, changes cannot be detected.
    """

    def __init__(self, tcp: SnapshotterClient, http: InfluxHTTP | None) -> None:
        self.tcp = tcp
        self.http = http
        self._known_start: int | None = None
        self._last_start: int | None = None
        tcp.peer.restarted = self._is_restarted
        self._never_reported = False
        self.reached_by: Address | None = None
        """The address by which another process opens the same source."""
        self.leftovers = Leftovers()
        """The directories that its release leaves behind when shards are read."""

    @property
    def kind(self) -> Literal["server"]:
        return "server"

    @property
    def address(self) -> str:
        return str(self.tcp.tcp_addr)

    @property
    def named(self) -> str:
        """Its address, and the reachable one where that differs."""
        return self.tcp.named

    @property
    def crashes(self) -> Crashes:
        """Shards that bring it down when they are read."""
        return self.tcp.peer.crashes

    def peer(self, node: str = "") -> Peer:
        """The server's availability."""
        return self.tcp.peer

    def _is_restarted(self) -> bool | None:
        """Whether the server's process has restarted since its last figures; None: unknown."""
        before = self._last_start or self._known_start
        if self.http is None or before is None:
            return None
        try:
            now = self.http.server_vars(activity=False).started_ns
        except WireError:
            return None
        self._last_start = now or self._last_start
        return None if now is None else now != before

    def metastore(self) -> tuple[bytes, Metastore]:
        """The metastore as bytes, to be stored unchanged, and decoded; read at least twice."""
        raw = settled(self.tcp.metastore, self.address)
        return raw, decode_metastore(raw)

    def shards_on_disk(self) -> frozenset[ShardID]:
        """The shards that exist on the server; its metastore also lists planned ones."""
        listed = self.tcp.listed_shards()
        return frozenset(path.shard_id for path in (*listed.paths, *listed.odd))

    def inventory(self, metastore: Metastore) -> ReplicaInventory:
        """The shards on the server's disk; the server is the only node."""
        here = (ShardCopy(self.address),)
        return ReplicaInventory(dict.fromkeys(self.shards_on_disk(), here))

    def nodes_of(self, shard: ShardInfo, metastore: Metastore) -> tuple[str, ...]:
        """The nodes that should have a replica of the shard: the server itself."""
        return (self.address,)

    def http_endpoints(self, metastore: Metastore | None = None) -> tuple[InfluxHTTP, ...]:
        """Its HTTP API; empty if it is not used."""
        return () if self.http is None else (self.http,)

    def has_shard(self, shard_id: ShardID) -> bool:
        return shard_id in self.shards_on_disk()

    def open_shard(
        self, shard_id: ShardID, *, node: str = "", since_ns: int | None = None
    ) -> AbstractContextManager[ShardStream]:
        """As `SnapshotterClient.open_shard`; some releases need an export, see `leftovers`."""
        if self.leftovers.expected and self.leftovers.exports(shard_id):
            return self._exported(shard_id, since_ns)
        return self.tcp.open_shard(shard_id, since_ns=since_ns)

    @contextmanager
    def _exported(self, shard_id: ShardID, since_ns: int | None) -> Generator[ShardStream]:
        start_ns, end_ns = range_of(since_ns)
        whole = since_ns is None
        with self.tcp.export_shard(shard_id, start_ns, end_ns, whole=whole) as stream:
            try:
                yield stream
            except (PeerClosedEarly, ArchiveCorrupt):
                self.leftovers.with_deletes.add(shard_id)
                raise

    def abort(self) -> None:
        """Break off every request in progress, from any thread."""
        self.tcp.abort()

    def resume(self) -> None:
        """Allow requests again after `abort`."""
        self.tcp.resume()

    def about(self) -> SourceFacts:
        """Version and clock only, by a small request; empty if HTTP is not available."""
        if self.http is None:
            return SourceFacts()
        try:
            reply = self.http.ping()
        except WireError:
            return SourceFacts()
        self.leftovers.learn(reply.version)
        return SourceFacts(reply.version, reply.clock_ns)

    def facts(self, *, activity: bool = False) -> tuple[SourceFacts, WireError | None]:
        """The server's facts from HTTP; without HTTP, empty facts and the error.

        A backup without them is a full copy. So a closed HTTP port is not an error here, nor is a
        proxy in front of it that passes only some paths, or answers itself.

        Raises:
            UsageError: the HTTP address is another server's.
        """
        if self.http is None:
            return SourceFacts(), None
        version = ""
        try:
            version = _version(self.http)
            self.leftovers.learn(version)
            reply, orphans = self._vars_of_this_server(self.http, activity)
        except WireError as error:
            self._never_reported = self._known_start is None
            return SourceFacts(version), error
        self._never_reported = False
        return replace(_facts(version, reply), orphans=orphans), None

    def recall(self, version: str, first: Mapping[str, SourceFacts]) -> None:
        """As `BackupSource.recall`; HTTP that gave no figures then is not asked for any now."""
        facts = first.get(self.address)
        self.leftovers.learn(version)
        self._known_start = facts.started_ns if facts else None
        self._never_reported = self._known_start is None

    def figures(self, node: str = "") -> SourceFacts:
        """As `facts`; the server's identity is checked again only after a restart.

        Empty if `facts` found HTTP closed, or found that a proxy hides the figures.

        Raises:
            WireError: HTTP does not answer.
            UsageError: the HTTP address is another server's by now.
        """
        if self.http is None or self._never_reported:
            return SourceFacts()
        with self.tcp.peer.exchange():
            reply = self.http.server_vars(activity=False)
        if reply.started_ns is None or reply.started_ns != self._known_start:
            reply, _ = self._vars_of_this_server(self.http, activity=False)
        return _facts("", reply)

    def _vars_of_this_server(
        self, http: InfluxHTTP, activity: bool
    ) -> tuple[ServerVars, dict[ShardID, str]]:
        """The figures from HTTP, after a check that both ports belong to one server.

        If HTTP reports a shard that the TCP port does not list, both metastores are read. A shard
        in neither of them is an orphan: a copied directory, or the rest of a crash. A shard in
        the one behind HTTP shows that HTTP is another server's.

        Returns:
            The figures without those of orphans, and the orphans.

        Raises:
            UsageError: HTTP reports shards of another server.
            WireError: a request fails.
        """
        reply, strange = http.server_vars(activity=activity), dict[ShardID, str]()
        for scan in range(MAX_ATTEMPTS):
            listed = self.tcp.listed_shards()
            here = {p.shard_id: f"{p.database}/{p.policy}" for p in listed.paths}
            here |= {p.shard_id: p.path.rpartition("/")[0] for p in listed.odd}
            strange = {
                shard_id: f"{stats.database}/{stats.policy}"
                for shard_id, stats in reply.shards.items()
                if here.get(shard_id) != f"{stats.database}/{stats.policy}"
            }
            if not strange:
                self._known_start = reply.started_ns
                return reply, {}
            if scan < MAX_ATTEMPTS - 1:  # a shard may just have been dropped
                reply = http.server_vars(activity=activity)
        orphans = self._orphans(http, strange)
        self._known_start = reply.started_ns
        kept = {i: stats for i, stats in reply.shards.items() if i not in strange}
        return replace(reply, shards=kept), orphans

    def _orphans(self, http: InfluxHTTP, strange: Mapping[ShardID, str]) -> dict[ShardID, str]:
        """The shards in neither metastore; every other one must be in both, with equal names."""
        there = shards_known(http)
        _, metastore = self.metastore()
        here = {place.shard_id: f"{place.database}/{place.policy}" for place in metastore.places()}
        for shard_id in sorted(strange):
            if there.get(shard_id) != here.get(shard_id):
                raise self.other_server(f"it reports shard {shard_id}, which is not there")
        return {shard_id: path for shard_id, path in strange.items() if shard_id not in here}

    def other_server(self, why: str) -> UsageError:
        """The error for two addresses that belong to different servers."""
        return UsageError(
            f"{self.http.http_addr if self.http else ''} is not the HTTP address of "
            f"{self.address}: {why}",
            hint="name the right one with -http; with -http none, backups copy everything",
        )


def _facts(version: str, reply: ServerVars) -> SourceFacts:
    return SourceFacts(
        version, reply.current_time_ns, reply.started_ns, reply.shards, uptime_s=reply.uptime_s
    )


def _version(http: InfluxHTTP) -> str:
    """The version, by a statement if a proxy hides it; empty if the statement is refused, too.

    Raises:
        PeerUnreachable: the server does not answer.
    """
    try:
        return http.ping().version
    except PeerUnreachable:
        raise
    except WireError as error:
        try:
            return diagnosed_version(http)
        except PeerUnreachable:
            raise error from None
        except WireError:
            return ""
