"""The coordinator behind byte 2 of a data node's TCP port: requests between nodes.

It accepts no points: the nodes share a process and pass them directly. A message that would crash
or erase the original is refused, or ignored as an unknown one.

Source: influxdb-cluster coordinator/service.go and rpc.go.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TypeVar

from msgspec import Struct, field

from resources.embedded.data.tar_exchange import backup_stream, receive_shard
from resources.embedded.listener import Line
from resources.embedded.shards.store import ShardStore, StoredShard
from resources.errors import BadReply, ShardkeeperError, UnsafeName
from resources.model import NodeID, ShardID
from resources.protocol import coordinator as wire
from resources.protocol import coordinator_pb2 as pb
from resources.protocol.coordinator import MessageType
from resources.protocol.meta_api import EMPTY_WRITE_BYTES, OwnerStatus
from resources.protocol.stream import Parsing, StreamReader

R = TypeVar("R", bound=wire.Request)

PIECE_BYTES = 64 * 1024
DIAL_TIMEOUT_S = 1.0
_NEVER_NS = 1_000_000_000


class CoordinatorService(Struct, frozen=True):
    """Serves connections of one data node."""

    store: ShardStore
    node: Callable[[], tuple[NodeID, str]]
    """Our own ID, 0 before joining, and TCP address."""
    execute: Callable[[str, str], None]
    """Runs a statement on this node only: text, database; may raise ShardkeeperError."""
    created: set[ShardID] = field(default_factory=set[ShardID])
    """Shards that a write without points created; their WAL has an entry of it."""

    def serve(self, line: Line) -> None:
        """Answer messages until the peer closes, or until one that ends the connection.

        Raises:
            OSError: the connection broke.
        """
        reader = StreamReader("message")
        while (message := _message(reader, line)) is not None:
            if not self._answered(*message, line):
                return

    def _answered(self, number: MessageType, raw: bytes, line: Line) -> bool:
        """Answer a message; returns whether the connection stays open."""
        match number:
            case MessageType.WRITE_SHARD:
                line.sendall(self._write(raw).encode(number))
                return True
            case MessageType.EXECUTE_STATEMENT:
                line.sendall(self._execute(raw).encode(number))
                return True
            case MessageType.BACKUP_SHARD:
                self._backup(raw, line)
            case MessageType.COPY_SHARD:
                line.sendall(self._copy(raw).encode(number))
            case MessageType.REMOVE_SHARD:
                line.sendall(self._remove(raw).encode(number))
            case MessageType.LIST_SHARDS:
                line.sendall(wire.ShardList(self.listed()).encode())
        return False

    def listed(self) -> Mapping[ShardID, OwnerStatus]:
        """All shards on this node's disk."""
        node_id, tcp_addr = self.node()
        return {
            shard_id: OwnerStatus(
                node_id,
                tcp_addr,
                stored.state,
                last_modified_ns(self.store, stored),
                copy_bytes(self.store, stored) + EMPTY_WRITE_BYTES * (shard_id in self.created),
            )
            for shard_id, stored in self.store.shards().items()
        }

    def _write(self, raw: bytes) -> wire.CodeReply:
        """Create a shard; without names, creates none and reports success."""
        try:
            request = _decoded(wire.WriteShard, MessageType.WRITE_SHARD, raw)
        except UnsafeName as error:
            loose = pb.WriteShardRequest.FromString(raw)
            if not loose.Database or not loose.RetentionPolicy:
                return wire.CodeReply(0)
            return wire.CodeReply(1, error.what)
        except BadReply:
            return wire.CodeReply(1, "unexpected EOF")
        is_new = request.shard_id not in self.store.shards()
        try:
            self.store.create(request.database, request.policy, request.shard_id)
        except ShardkeeperError as error:
            return wire.CodeReply(1, f"create shard {request.shard_id}: {error}")
        if is_new:
            self.created.add(request.shard_id)
        return wire.CodeReply(0)

    def _execute(self, raw: bytes) -> wire.CodeReply:
        try:
            request = _decoded(wire.ExecuteStatement, MessageType.EXECUTE_STATEMENT, raw)
            self.execute(request.statement, request.database)
        except ShardkeeperError as error:
            return wire.CodeReply(1, str(error))
        return wire.CodeReply(0)

    def _backup(self, raw: bytes, line: Line) -> None:
        try:
            request = _decoded(wire.BackupShard, MessageType.BACKUP_SHARD, raw)
            with self.store.snapshot(request.shard_id) as members:
                for piece in backup_stream(members, request.since_ns):
                    line.sendall(piece)
        except ShardkeeperError:
            return

    def copy(
        self, host: str, database: str, policy: str, shard_id: ShardID, since_ns: int | None = None
    ) -> str:
        """Copy a shard from another node; returns an error text, empty on success.

        If the other node does not have it, this node has an empty one, and that is success.
        """
        name, _, port = host.rpartition(":")
        if not port.isdigit() or int(port) > 65535:
            return f"dial tcp: address {host}: missing port in address"
        try:
            with socket.create_connection((name, int(port)), timeout=DIAL_TIMEOUT_S) as sock:
                sock.settimeout(None)
                sock.sendall(wire.MUX_HEADER + wire.BackupShard(shard_id, since_ns).encode())
                self.store.create(database, policy, shard_id)
                with self.store.overlay(shard_id) as upload:
                    receive_shard(sock.recv, (database, policy, shard_id), upload)
        except OSError as error:
            return f"dial tcp {host}: connect: {(error.strerror or str(error)).lower()}"
        except ShardkeeperError as error:
            return str(error) or "failed"
        return ""

    def remove(self, shard_id: ShardID) -> str:
        """Delete a shard's files; returns an error text, empty on success."""
        if shard_id not in self.store.shards():
            return "shard not found"
        self.store.remove(shard_id)
        self.created.discard(shard_id)
        return ""

    def _copy(self, raw: bytes) -> wire.ErrReply:
        try:
            asked = _decoded(wire.CopyShard, MessageType.COPY_SHARD, raw)
        except ShardkeeperError as error:
            return wire.ErrReply(error.what)
        return wire.ErrReply(
            self.copy(asked.host, asked.database, asked.policy, asked.shard_id, asked.since_ns)
        )

    def _remove(self, raw: bytes) -> wire.ErrReply:
        try:
            asked = _decoded(wire.RemoveShard, MessageType.REMOVE_SHARD, raw)
        except ShardkeeperError as error:
            return wire.ErrReply(error.what)
        return wire.ErrReply(self.remove(asked.shard_id))


def last_modified_ns(store: ShardStore, stored: StoredShard) -> int:
    """The time of a replica's last change; for an empty one, of its creation."""
    if stored.last_modified_ns > _NEVER_NS:
        return stored.last_modified_ns
    path = store.directory / "data" / stored.database / stored.policy / str(stored.id)
    return path.stat().st_mtime_ns if path.exists() else time.time_ns()


def copy_bytes(store: ShardStore, stored: StoredShard) -> int:
    """A replica's size on disk: TSM and tombstone files, and the WAL."""
    place = f"{stored.database}/{stored.policy}/{stored.id}"
    size_bytes = stored.disk_bytes
    with suppress(FileNotFoundError):
        size_bytes += (store.directory / f"wal/{place}.wal").stat().st_size
    with suppress(FileNotFoundError), os.scandir(f"{store.directory}/data/{place}") as entries:
        size_bytes += sum(e.stat().st_size for e in entries if e.name.endswith(".tombstone"))
    return size_bytes


def _message(reader: StreamReader, line: Line) -> tuple[MessageType, bytes] | None:
    """The next message of a known type; `None` at the end of the stream.

    An unknown type is skipped without its length, as in the original, so the connection hangs
    until the peer closes; a length beyond the limit ends it.
    """
    while True:
        parsing = _parsed(reader)
        try:
            while True:
                next(parsing)
                reader.feed(line.recv(PIECE_BYTES))
        except StopIteration as done:
            if done.value is None:
                return None
            number, raw = done.value
            if number is not None:
                return number, raw
        except ShardkeeperError:
            return None


def _parsed(reader: StreamReader) -> Parsing[tuple[MessageType | None, bytes] | None]:
    if (yield from reader.at_eof()):
        return None
    number = yield from reader.read_byte("the message type")
    if number not in frozenset(MessageType):
        return None, b""
    if number == MessageType.LIST_SHARDS:
        return MessageType(number), b""
    raw = yield from reader.read_block("the message", limit=wire.MAX_REQUEST_BYTES)
    return MessageType(number), raw


def _decoded(kind: type[R], number: MessageType, raw: bytes) -> R:
    reader = StreamReader("message")
    reader.feed(bytes([number]) + len(raw).to_bytes(8, "big") + raw)
    reader.feed_eof()
    parsing = wire.request(reader)
    while True:
        try:
            next(parsing)
        except StopIteration as done:
            if isinstance(done.value, kind):
                return done.value
            raise BadReply("the message does not match its type") from None
