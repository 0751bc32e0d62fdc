"""SnapshotterClient: the TCP service (8088) of one server or data node.

Every request has a connection of its own. The service has no error reply: an empty stream is
the error, and only the server's log has the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from weakref import WeakSet

from resources.clients.address import NO_MAP, AddressMap, split_host_port
from resources.clients.connection import CHUNK_BYTES, Buffer, Bytes, Connection, StallLimit
from resources.clients.cut_again import asked_again
from resources.clients.peers import BRIEFLY_S, Crashes, Peer
from resources.clients.source_address import MIN_BYTES_PER_S
from resources.errors import (
    BadReply,
    NothingMatches,
    PeerClosedEarly,
    PeerRefused,
    PeerSilent,
    PeerTooSlow,
    PeerUnreachable,
    WireError,
    counted,
)
from resources.model import INTERNAL_DATABASE, ShardID
from resources.protocol import snapshotter as requests
from resources.protocol.meta import decode_metastore
from resources.protocol.snapshotter import (
    ShardPath,
    ShardPaths,
    id_map,
    metastore_reply,
    shard_paths,
    what_answered_instead,
)
from resources.protocol.stream import HEAD_BYTES, LOG_HINT, Parsing, StreamReader

if TYPE_CHECKING:
    from ssl import SSLContext

T = TypeVar("T")

SNAPSHOTTER_PORT = 8088
IDLE_TIMEOUT_S = 60.0
FINISH_TIMEOUT_S = 600.0
"""The time-out after an upload or an import.

After an upload the server syncs the files and reopens the shard before it closes the connection.
Before it answers an import it creates all shards, half a millisecond each on a fast disk.
"""

BRIEF_ASKS, BRIEF_PAUSE_S = 3, 0.05

MAX_OLD_IMPORT_BYTES = 60_000
"""Servers 1.5 to 1.7 read an import in a single read: beyond this size it may fail."""


class SnapshotterClient:
    """The client of one server's snapshotter; safe to share between threads.

    Args:
        tcp_addr: host:port, 8088 if the port is left out.
        timeout_s: how long the server may be silent.
        min_bytes_per_s: its minimum rate; 0: none.
        finish_timeout_s: how long it may take to install an upload or an import.
        tls: how to encrypt; data nodes support it, and so do proxies in front of a server.
        route: the reachable addresses.
        before_change: called right before each upload; an exception from it prevents the upload.
        crashes: shards that bring servers down; all nodes of a cluster share it.
    """

    def __init__(
        self,
        tcp_addr: str,
        *,
        timeout_s: float = IDLE_TIMEOUT_S,
        min_bytes_per_s: int = MIN_BYTES_PER_S,
        finish_timeout_s: float = FINISH_TIMEOUT_S,
        tls: SSLContext | None = None,
        before_change: Callable[[], None] = lambda: None,
        route: AddressMap = NO_MAP,
        crashes: Crashes | None = None,
    ) -> None:
        self._address = split_host_port(tcp_addr, default_port=SNAPSHOTTER_PORT)
        self._before_change = before_change
        self._tls = tls
        self._endpoint = route.endpoint(self._address)
        self._stall_limit = StallLimit(timeout_s, min_bytes_per_s)
        self._finish_timeout_s = finish_timeout_s
        self._connections: WeakSet[Connection] = WeakSet()
        self._aborted = False
        self.peer = Peer(self.named, self._answers, crashes)
        self.peer.went_away = self._break_off_silent
        """The server's availability."""

    def abort(self) -> None:
        """Break off every request in progress, from any thread, and refuse new ones until `resume`.

        An upload that waits for its end takes this for the end, and its thread would go on to
        read the shard back; the refusal stops it.
        """
        self._aborted = True
        for connection in list(self._connections):
            connection.abort()

    def _break_off_silent(self) -> None:
        """Break off the requests that have waited for longer than a probe of an absent peer."""
        for connection in list(self._connections):
            if connection.waits_s() >= min(BRIEFLY_S, self._stall_limit.idle_s):
                connection.abort(PeerSilent("no answer here either"))

    def resume(self) -> None:
        """Allow requests again after `abort`, for the clean-up."""
        self._aborted = False

    def __repr__(self) -> str:
        return f"SnapshotterClient({self.tcp_addr!r})"

    @property
    def tcp_addr(self) -> str:
        """host:port, as every error shows it."""
        return str(self._address)

    @property
    def named(self) -> str:
        """The same, with the reachable address where that differs."""
        return self._endpoint.name

    def metastore(self) -> bytes:
        """Fetch the metastore: a serialized `Data`, with password hashes in it.

        Raises:
            PeerUnreachable, PeerClosedEarly, BadReply: the request fails.
        """
        reply = self._ask_for(requests.MetastoreBackup(), metastore_reply, "reading the metastore")
        return reply.meta

    def shard_paths(self, database: str = "", policy: str | None = None) -> list[ShardPath]:
        """List the shards on this server: of one policy, of one database, or all of them.

        Raises:
            PeerClosedEarly: also if there is no such database or policy.
            PeerUnreachable, BadReply: the request fails.
        """
        return list(self.listed_shards(database, policy).paths)

    def listed_shards(self, database: str = "", policy: str | None = None) -> ShardPaths:
        """As `shard_paths`, and also the paths with names that no archive can have.

        Raises:
            WireError: as `shard_paths`.
        """
        request = (
            requests.DatabasePaths(database)
            if policy is None
            else requests.RetentionPolicyPaths(database, policy)
        )
        return self._ask_for(request, shard_paths, "listing shards")

    @contextmanager
    def open_shard(
        self, shard_id: ShardID, *, since_ns: int | None = None
    ) -> Generator[ShardStream]:
        """Stream a shard's files as a tar archive; `since_ns` leaves out older files.

        Two requests for one shard must not overlap: servers up to 1.7 fail one of them, and
        later ones silently leave out the cache.

        Raises:
            PeerClosedEarly: the stream is empty: no such shard, or the shard is busy.
            PeerUnreachable, BadReply: the request fails, or the read later.
        """
        with self._opened(
            requests.ShardBackup(shard_id, since_ns), whole=since_ns is None
        ) as stream:
            yield stream

    @contextmanager
    def export_shard(
        self, shard_id: ShardID, start_ns: int, end_ns: int, *, whole: bool
    ) -> Generator[ShardStream]:
        """Stream the files of a shard that have points in a time range, as a tar archive.

        Args:
            whole: whether the range covers all files.

        Raises:
            WireError: as `open_shard`; at a file with pending deletes the stream breaks off.
        """
        with self._opened(requests.ShardExport(shard_id, start_ns, end_ns), whole=whole) as stream:
            yield stream

    @contextmanager
    def _opened(
        self, request: requests.ShardBackup | requests.ShardExport, *, whole: bool
    ) -> Generator[ShardStream]:
        shard_id = request.shard_id
        phase = f"reading shard {shard_id}"
        with (
            self.peer.reading(shard_id, whole=whole, aborted=self._is_aborted),
            self._connect(phase) as connection,
        ):
            connection.sendall(requests.MUX_HEADER + request.encode())
            yield ShardStream(connection, phase)

    def import_metastore(
        self,
        database: str,
        new_database: str,
        policy: str,
        new_policy: str,
        meta: bytes,
    ) -> dict[ShardID, ShardID]:
        """Create a database like the one in `meta`, and return the new id of each shard.

        Empty names mean: all databases, same name, all policies, same name. The server does not
        report why it refused, and not always that it refused: after any error, check whether
        the database exists before trying again.

        Raises:
            PeerRefused: the server refused.
            NothingMatches: `meta` has no such shards, so success would look like a refusal.
            PeerUnreachable, PeerClosedEarly, BadReply: the request fails.
        """
        sent = _shard_ids(meta, database, policy)
        if not sent:
            raise NothingMatches(
                "the metadata to import names no shards",
                hint="create the database over HTTP instead",
            )
        request = requests.MetastoreUpdate(database, new_database, policy, new_policy, meta)
        size_hint = (
            f"; servers 1.5 to 1.7 cannot take {len(meta)} bytes of metadata,"
            " restore fewer policies or shards at a time"
            if len(meta) > MAX_OLD_IMPORT_BYTES
            else ""
        )
        try:
            reply = self._ask(
                request, id_map, "importing metadata", answer_s=self._finish_timeout_s
            )
        except (PeerUnreachable, PeerClosedEarly) as error:
            raise type(error)(error.what, hint=error.hint + size_hint) from None
        if not reply.pairs:
            raise PeerRefused(
                f"{self.tcp_addr}: import of {database!a} refused",
                hint="does the database exist there already? The server's log says why" + size_hint,
            )
        if {old for old, _ in reply.pairs} != sent:
            raise BadReply(
                f"{self.tcp_addr}: the ID map does not match {counted(len(sent), 'shard')} that "
                f"the run sent; the map has {len(reply.pairs)}"
            )
        return dict(reply.pairs)

    @contextmanager
    def upload(self, shard_id: ShardID) -> Generator[Upload]:
        """Send a tar archive that becomes the content of a new, empty shard.

        Leaving the block without `finish()` resets the connection, because the server
        takes an archive that ends between two members for a complete one.

        Raises:
            PeerUnreachable, BadReply: while sending, or in `finish()`.
        """
        with (
            self.peer.exchange(self._is_aborted),
            self._connect(f"uploading shard {shard_id}") as connection,
        ):
            self._before_change()
            yield Upload(connection, shard_id, self._finish_timeout_s)

    def _answers(self) -> bool:
        """Whether the server answers a request for the metastore within a short time.

        A tunnel may cut that request off, too, so it is repeated.
        """
        stall_limit = StallLimit(
            min(BRIEFLY_S, self._stall_limit.idle_s), self._stall_limit.min_bytes_per_s
        )
        for _ in range(BRIEF_ASKS):
            try:
                with Connection(self._endpoint, stall_limit, tls=self._tls) as line:
                    line.phase("probing the server")
                    line.sendall(requests.MUX_HEADER + requests.MetastoreBackup().encode())
                    line.receive(metastore_reply)
                    line.finished()
                return True
            except (PeerSilent, PeerTooSlow):
                return False
            except WireError as error:
                if isinstance(error.__cause__, ConnectionRefusedError):
                    return False
            time.sleep(BRIEF_PAUSE_S)
        return False

    def _is_aborted(self) -> bool:
        return self._aborted

    def _connect(self, phase: str) -> Connection:
        connection = Connection(self._endpoint, self._stall_limit, tls=self._tls)
        connection.phase(phase)
        self._connections.add(connection)
        if self._aborted:
            connection.abort()
        return connection

    def _ask_for(
        self, request: requests.Request, parse: Callable[[StreamReader], Parsing[T]], phase: str
    ) -> T:
        return asked_again(lambda: self._ask(request, parse, phase), given_up=lambda: self._aborted)

    def _ask(
        self,
        request: requests.Request,
        parse: Callable[[StreamReader], Parsing[T]],
        phase: str,
        *,
        answer_s: float | None = None,
    ) -> T:
        with self.peer.exchange(self._is_aborted), self._connect(phase) as connection:
            # One send: servers 1.5 to 1.7 expect type byte, JSON and payload in one read.
            connection.sendall(requests.MUX_HEADER + request.encode())
            connection.phase(phase, answer_s=answer_s)
            reply = connection.receive(parse)
            connection.finished()
            return reply


class ShardStream:
    """The unchecked tar archive of a shard, as it arrives."""

    def __init__(self, connection: Connection, phase: str) -> None:
        self._connection = connection
        self._head = memoryview(self._first_bytes())
        if not self._head:
            raise PeerClosedEarly(
                f"{connection.address}: empty reply while {phase}",
                hint=f"no such shard, or it is busy; {LOG_HINT}",
            )
        who = what_answered_instead(bytes(self._head))
        if who:
            raise BadReply(f"{connection.address}: not a snapshotter", hint=who)

    def recv_into(self, buffer: Buffer) -> int:
        """Read what has arrived into `buffer`, at least a byte; returns 0 at the end.

        The stream may end anywhere: its reader checks whether the archive is complete.
        """
        if not self._head:
            n_bytes = self._connection.recv_into(buffer)
            if n_bytes == 0:
                self._connection.finished()
            return n_bytes
        view = memoryview(buffer).cast("B")
        n_bytes = min(len(view), len(self._head))
        view[:n_bytes] = self._head[:n_bytes]
        self._head = self._head[n_bytes:]
        return n_bytes

    def _first_bytes(self) -> bytes:
        """Read enough of the stream to distinguish a tar member from another protocol."""
        head = bytearray(HEAD_BYTES)
        n_bytes = 0
        while n_bytes < len(head):
            got = self._connection.recv_into(memoryview(head)[n_bytes:])
            if got == 0:
                break
            n_bytes += got
        return bytes(head[:n_bytes])


class Upload:
    """The upload of a tar archive into a shard."""

    def __init__(self, connection: Connection, shard_id: ShardID, finish_timeout_s: float) -> None:
        self._connection = connection
        self._finish_timeout_s = finish_timeout_s
        # Sent together with the first data: servers 1.5 to 1.7 read the head with single reads.
        self._head = requests.MUX_HEADER + requests.ShardUpdate(shard_id).encode()

    def sendall(self, data: Bytes) -> None:
        """Send the next bytes of the archive.

        Raises:
            PeerUnreachable: also if the server broke off: no such shard, or no tar archive.
        """
        view = memoryview(data).cast("B")
        if self._head:
            first = self._head + view[:CHUNK_BYTES]
            self._head = b""
            view = view[CHUNK_BYTES:]
            self._connection.sendall(first)
        self._connection.sendall(view)

    def finish(self) -> None:
        """Wait until the server has installed the files and closed the connection.

        The server closes after the archive's end marker. Our side stays open until then, in TLS
        too: many tunnels take a half-closed connection for a closed one, and a server that
        closes with our close_notify unread resets the connection.

        The server sends no reply, neither after success nor after most failures: only reading
        the shard back shows the result.

        Raises:
            PeerUnreachable: the connection was reset, or the server took too long.
            BadReply: the server sent a reply.
        """
        self.sendall(b"")
        self._connection.phase("finishing an upload", answer_s=self._finish_timeout_s)
        self._connection.receive(_nothing)
        self._connection.finished()


def _nothing(reader: StreamReader) -> Parsing[None]:
    yield from reader.expect_eof()


def _shard_ids(meta: bytes, database: str, policy: str) -> set[ShardID]:
    """The shards that an import of `meta` maps; the server includes deleted groups."""
    return {
        shard.id
        for db in decode_metastore(meta).databases
        if (db.name == database if database else db.name != INTERNAL_DATABASE)
        for rp in db.retention_policies
        if not policy or rp.name == policy
        for group in rp.shard_groups
        for shard in group.shards
    }
