"""The snapshotter behind byte 3 of a node's TCP port: backups and uploads of shards.

It has no error reply. After any error it closes the connection, mostly without a byte; `log` has
the reason, as a server's log does.

Source: influxdb services/snapshotter/service.go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Struct

from resources.embedded.data.tar_exchange import backup_stream, export_stream, receive_shard
from resources.embedded.listener import Line
from resources.embedded.meta.group import SharedMeta
from resources.embedded.meta.imports import Imported, imported
from resources.embedded.shards.store import ShardStore
from resources.errors import BadReply, PeerClosedEarly, ShardkeeperError
from resources.model import DatabaseInfo, Metastore, ShardID
from resources.protocol import snapshotter as wire
from resources.protocol.meta import decode_metastore
from resources.protocol.snapshotter import IDMap, MetastoreReply, ShardPath, ShardPaths
from resources.protocol.stream import Parsing, StreamReader

PIECE_BYTES = 64 * 1024


class SnapshotterFaults(Struct):
    """The faults of a snapshotter."""

    short_read_bytes: int | None = None
    """The size at which a payload of type 6 ends, as InfluxDB up to 1.7 cuts large ones."""
    in_progress: int = 0
    """The number of shard backups to refuse because of a snapshot in progress, as up to 1.7."""
    coarse_ns: int = 1
    """The tick of file times: changes within one tick of `Since` are missed."""
    before_shard: Callable[[ShardID], None] | None = None
    """Called before a whole shard is sent; may block."""
    leaves_directories: bool = False
    """Whether each backup of a shard leaves two directories in it, as in 1.8.0 to 1.8.4."""


class SnapshotterService:
    """Serves one connection at a time per thread.

    Attributes:
        log: the errors, newest last.
    """

    def __init__(self, store: ShardStore, meta: SharedMeta) -> None:
        self.faults = SnapshotterFaults()
        self.log: list[str] = []
        self._store = store
        self._meta = meta

    def serve(self, line: Line) -> None:
        """Answer one request after the mux byte.

        Raises:
            OSError: the connection broke.
        """
        try:
            for piece in self._answer(line):
                line.sendall(piece)
        except ShardkeeperError as error:
            self.log.append(str(error))

    def _answer(self, line: Line) -> Iterable[bytes]:
        kind = line.recv(1)
        if kind == bytes([wire.RequestType.SHARD_UPDATE]):
            # Exact reads: bytes after the end stay unread, which resets the connection.
            shard_id = b""
            while len(shard_id) < 8:
                piece = line.recv(8 - len(shard_id))
                if not piece:
                    raise PeerClosedEarly("EOF")
                shard_id += piece
            self._update(ShardID(int.from_bytes(shard_id, "big")), line)
            return ()
        reader = StreamReader("request")
        reader.feed(kind)
        known = not kind or kind[0] <= wire.RequestType.SHARD_UPDATE
        parsing = wire.request(reader) if known else _unknown(reader)
        while True:
            try:
                next(parsing)
            except StopIteration as done:
                return self._reply(done.value)
            reader.feed(line.recv(PIECE_BYTES))

    def _reply(self, request: wire.Request) -> Iterable[bytes]:
        match request:
            case wire.ShardBackup():
                return self._backup(request)
            case wire.ShardExport():
                return self._export(request)
            case wire.MetastoreBackup():
                return (MetastoreReply(self._meta.encoded).encode(),)
            case wire.DatabasePaths():
                return (self._paths(request.database, "").encode(),)
            case wire.RetentionPolicyPaths():
                return (self._paths(request.database, request.policy).encode(),)
            case wire.MetastoreUpdate():
                return (self._import(request).encode(),)
            case _:
                raise ShardkeeperError(f"request type unknown: {type(request).__name__}")

    # --- sending ----------------------------------------------------------------------------

    def _backup(self, request: wire.ShardBackup) -> Iterable[bytes]:
        if self.faults.in_progress > 0:
            self.faults.in_progress -= 1
            raise ShardkeeperError("snapshot in progress")
        if self.faults.before_shard is not None and not request.since_ns:
            self.faults.before_shard(request.shard_id)
        if self.faults.leaves_directories:
            self._leave_directories(request.shard_id)
        with self._store.snapshot(request.shard_id) as members:
            yield from backup_stream(members, request.since_ns, self.faults.coarse_ns)

    def _leave_directories(self, shard_id: ShardID) -> None:
        shard = self._store.shards().get(shard_id)
        if shard is None:
            return
        there = self._store.directory / "data" / shard.database / shard.policy / str(shard.id)
        n = len(list(there.glob("*.tmp")))
        for left in (n + 1, n + 2):
            (there / f"{left}.tmp").mkdir()

    def _export(self, request: wire.ShardExport) -> Iterable[bytes]:
        with self._store.snapshot(request.shard_id) as members:
            yield from export_stream(members, request.start_time_ns, request.end_time_ns)

    def _paths(self, database: str, policy: str) -> ShardPaths:
        there = self._store.shards()
        paths: list[ShardPath] = []
        for db in self._databases(database):
            if policy and db.retention_policy(policy) is None:
                raise ShardkeeperError(f"retention policy not found: {policy}")
            for rp in db.retention_policies:
                if policy in ("", rp.name):
                    paths += [
                        ShardPath(db.name, rp.name, shard.id)
                        for group in rp.shard_groups
                        for shard in group.shards
                        if shard.id in there
                    ]
        return ShardPaths(tuple(paths))

    def _databases(self, name: str) -> tuple[DatabaseInfo, ...]:
        store = self._meta.metastore
        if not name:
            return store.databases
        found = store.database(name)
        if found is None:
            raise ShardkeeperError(f"database not found: {name}")
        return (found,)

    # --- receiving --------------------------------------------------------------------------

    def _import(self, request: wire.MetastoreUpdate) -> IDMap:
        """Import metadata; a refusal is an empty map, a later failure an empty reply."""
        limit = self.faults.short_read_bytes
        meta = request.meta if limit is None else request.meta[:limit]
        results: list[Imported] = []

        def change(store: Metastore) -> Metastore:
            results.append(imported(store, decode_metastore(meta), request))
            return results[-1].metastore

        try:
            self._meta.change(change)
        except ShardkeeperError as error:
            self.log.append(str(error))
            return IDMap(())
        result = results[-1]
        for database, policy, shard_id in result.places:
            self._store.create(database, policy, shard_id)
        return IDMap(result.pairs)

    def _update(self, shard_id: ShardID, line: Line) -> None:
        stored = self._store.shards().get(shard_id)
        if stored is None:
            raise ShardkeeperError("shard not found")
        with self._store.overlay(shard_id) as upload:
            receive_shard(line.recv, (stored.database, stored.policy, shard_id), upload)


def _unknown(reader: StreamReader) -> Parsing[wire.Request]:
    """Read a request of an unknown type, so that the connection ends in order."""
    number = yield from reader.read_byte("the request type")
    yield from reader.read_json_object("the request", limit=wire.MAX_REQUEST_BYTES)
    raise BadReply(f"request type unknown: {number}")
