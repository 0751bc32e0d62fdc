"""Messages of the coordinator service (8088) of a cluster's data nodes, in both directions.

    0x02 | type, 1 byte | length, int64 big-endian | protobuf, length bytes
    0x02 | 37

A reply has the same form with type + 1; only BackupShard is answered by a bare tar stream. The
leading 0x02 belongs to the multiplexer. No message that this module writes can harm a node: it
writes no points, of which a bad one crashes a node, and no LeaveCluster, which deletes all data.

Source: influxdb-cluster coordinator/service.go, rpc.go and internal/data.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import TypeAlias

from google.protobuf.message import Message
from msgspec import Struct

from resources.errors import BadReply
from resources.model import ShardID
from resources.protocol import coordinator_pb2 as pb
from resources.protocol.influxql import check_name
from resources.protocol.meta import parse_strictly
from resources.protocol.meta_api import OwnerStatus, owner_status
from resources.protocol.records import fitting, parse_known
from resources.protocol.reply_fields import ReplyFields
from resources.protocol.snapshotter import DECIMAL, MAX_UINT64, go_json
from resources.protocol.stream import Parsing, StreamReader
from resources.protocol.strict_json import decode_json, is_object

MUX_HEADER = b"\x02"
MAX_REQUEST_BYTES = 2**20
MAX_REPLY_BYTES = 64 * 2**20
"""Enough for half a million shards of one node, with 120 bytes of JSON each."""

GO_ZERO_NS = -6795364578871345152
"""UnixNano of Go's zero time; means "from the beginning", as 0 does."""


class MessageType(IntEnum):
    """Types of requests; a reply's type is one more."""

    WRITE_SHARD = 1
    EXECUTE_STATEMENT = 3
    BACKUP_SHARD = 31
    COPY_SHARD = 33
    REMOVE_SHARD = 35
    LIST_SHARDS = 37


_TYPES = frozenset(MessageType)


# --- requests -----------------------------------------------------------------------------


class ListShards(Struct, frozen=True):
    """Lists all shards on the node's disk, also those that are in no metastore."""

    def encode(self) -> bytes:
        # The node would not read a length, and the unread bytes would reset the answer.
        return bytes([MessageType.LIST_SHARDS])


class WriteShard(Struct, frozen=True):
    """Writes zero points, which creates the shard if it does not exist.

    The node does not check the metastore, so the shard may be unknown there.
    """

    shard_id: ShardID
    database: str
    policy: str

    def encode(self) -> bytes:
        """Encode the message.

        Raises:
            UnsafeName: a name is invalid; names become a path on the node.
        """
        _check_names(self.database, self.policy)
        return _tlv(
            MessageType.WRITE_SHARD,
            lambda: pb.WriteShardRequest(
                ShardID=self.shard_id, Database=self.database, RetentionPolicy=self.policy
            ),
        )


class ExecuteStatement(Struct, frozen=True):
    """Runs DELETE, or DROP of a database, measurement, policy, series or shard, on this node."""

    statement: str
    database: str

    def encode(self) -> bytes:
        return _tlv(
            MessageType.EXECUTE_STATEMENT,
            lambda: pb.ExecuteStatementRequest(Statement=self.statement, Database=self.database),
        )


class BackupShard(Struct, frozen=True):
    """Requests a shard's tar stream, as the snapshotter sends it; it is empty without the shard."""

    shard_id: ShardID
    since_ns: int | None = None

    def encode(self) -> bytes:
        return _tlv(
            MessageType.BACKUP_SHARD,
            lambda: pb.BackupShardRequest(ShardID=self.shard_id, Since=_go_time(self.since_ns)),
        )


class CopyShard(Struct, frozen=True):
    """Makes a node copy a shard from another; names and ID must be the same on both.

    If the other node does not have it, this node creates an empty shard and reports success.
    """

    host: str
    """The TCP address of the node that has the shard."""
    database: str
    policy: str
    shard_id: ShardID
    since_ns: int | None = None

    def encode(self) -> bytes:
        """Encode the message.

        Raises:
            UnsafeName: a name is invalid; names become a path on the node.
        """
        _check_names(self.database, self.policy)
        return _tlv(
            MessageType.COPY_SHARD,
            lambda: pb.CopyShardRequest(
                Host=self.host,
                Database=self.database,
                Policy=self.policy,
                ShardID=self.shard_id,
                Since=_go_time(self.since_ns),
            ),
        )


class RemoveShard(Struct, frozen=True):
    """Deletes a shard's files on the node; the metastore does not change."""

    shard_id: ShardID

    def encode(self) -> bytes:
        return _tlv(MessageType.REMOVE_SHARD, lambda: pb.RemoveShardRequest(ShardID=self.shard_id))


Request: TypeAlias = (
    ListShards | WriteShard | ExecuteStatement | BackupShard | CopyShard | RemoveShard
)


def request(reader: StreamReader) -> Parsing[Request]:
    """Read one request after the mux header; more may follow.

    Raises:
        BadReply: an unknown type, a length beyond MAX_REQUEST_BYTES, a message that does not
            parse, or points in it.
        UnsafeName: a database or policy name that would lead outside the node's directory.
        PeerClosedEarly: EOF before the end of the request.
    """
    number = yield from reader.read_byte("the message type")
    if number == MessageType.LIST_SHARDS:
        return ListShards()
    if number not in _TYPES:
        raise BadReply(f"message of unknown type {number}")
    raw = yield from reader.read_block("the message", limit=MAX_REQUEST_BYTES)
    match MessageType(number):
        case MessageType.WRITE_SHARD:
            write = parse_known(pb.WriteShardRequest, raw, "WriteShard")
            database, policy = _text(write.Database), _text(write.RetentionPolicy)
            _check_names(database, policy)
            return WriteShard(ShardID(write.ShardID), database, policy)
        case MessageType.EXECUTE_STATEMENT:
            execute = parse_known(pb.ExecuteStatementRequest, raw, "ExecuteStatement")
            return ExecuteStatement(_text(execute.Statement), _text(execute.Database))
        case MessageType.BACKUP_SHARD:
            backup = parse_known(pb.BackupShardRequest, raw, "BackupShard")
            return BackupShard(ShardID(backup.ShardID), _time(backup.Since))
        case MessageType.COPY_SHARD:
            copy = parse_known(pb.CopyShardRequest, raw, "CopyShard")
            database, policy = _text(copy.Database), _text(copy.Policy)
            _check_names(database, policy)
            return CopyShard(
                _text(copy.Host), database, policy, ShardID(copy.ShardID), _time(copy.Since)
            )
        case _:
            remove = parse_known(pb.RemoveShardRequest, raw, "RemoveShard")
            return RemoveShard(ShardID(remove.ShardID))


# --- replies ------------------------------------------------------------------------------


class CodeReply(Struct, frozen=True):
    """The reply to WriteShard and ExecuteStatement; 0 is success."""

    code: int
    message: str = ""

    def encode(self, asked: MessageType) -> bytes:
        return _tlv(
            asked + 1, lambda: pb.CodeResponse(Code=self.code, Message=self.message or None)
        )


class ErrReply(Struct, frozen=True):
    """The reply to CopyShard and RemoveShard; an empty `err` is success."""

    err: str = ""

    def encode(self, asked: MessageType) -> bytes:
        return _tlv(asked + 1, lambda: pb.ErrResponse(Err=self.err or None))


class ShardList(Struct, frozen=True):
    """The reply to ListShards: each shard on the node's disk."""

    shards: Mapping[ShardID, OwnerStatus]
    err: str = ""

    def encode(self) -> bytes:
        # Go's encoder sorts keys as text.
        by_text = sorted((str(id_), owner) for id_, owner in self.shards.items())
        raw = go_json({id_: owner.to_json() for id_, owner in by_text}).rstrip(b"\n")
        return _tlv(
            MessageType.LIST_SHARDS + 1,
            lambda: pb.ListShardsResponse(Shards=raw, Err=self.err or None),
        )


def code_reply(reader: StreamReader, asked: MessageType) -> Parsing[CodeReply]:
    """Read the answer to WriteShard or ExecuteStatement; the node then waits for more requests.

    Raises:
        BadReply: another type, a length beyond MAX_REPLY_BYTES, or a message that does not parse.
        PeerClosedEarly: EOF before its end.
    """
    raw = yield from _reply(reader, asked)
    message = parse_strictly(pb.CodeResponse, raw, "reply")
    return CodeReply(message.Code, _text(message.Message))


def err_reply(reader: StreamReader, asked: MessageType) -> Parsing[ErrReply]:
    """Read the answer to CopyShard or RemoveShard, after which the node closes.

    Raises:
        BadReply: another type, a length beyond MAX_REPLY_BYTES, a message that does not parse, or
            bytes after it.
        PeerClosedEarly: EOF before its end.
    """
    raw = yield from _reply(reader, asked)
    yield from reader.expect_eof()
    message = parse_strictly(pb.ErrResponse, raw, "reply")
    # An empty error text is still an error.
    return ErrReply((_text(message.Err) or "no reason") if message.HasField("Err") else "")


def shard_list(reader: StreamReader) -> Parsing[ShardList]:
    """Read the answer to ListShards, after which the node closes.

    Wire, after type and length: 1 JSON {"7": {an owner as in /show-shards}, …} | 2 Err

    Raises:
        BadReply: another type, a length beyond MAX_REPLY_BYTES, a message or JSON that does not
            parse, or bytes after it.
        PeerClosedEarly: EOF before its end.
    """
    raw = yield from _reply(reader, MessageType.LIST_SHARDS)
    yield from reader.expect_eof()
    message = parse_strictly(pb.ListShardsResponse, raw, "reply")
    listed = decode_json(message.Shards, "the list of shards")
    if listed is not None and not is_object(listed):
        raise BadReply("the list of shards is not an object")
    shards = {_shard_id(key): _owner(value) for key, value in (listed or {}).items()}
    err = (_text(message.Err) or "no reason") if message.HasField("Err") else ""
    return ShardList(shards, err)


def _reply(reader: StreamReader, asked: MessageType) -> Parsing[bytes]:
    number = yield from reader.read_byte("the reply type")
    if number != asked + 1:
        raise BadReply(f"expected reply type {asked + 1}, got {number}")
    return (yield from reader.read_block("the reply", limit=MAX_REPLY_BYTES))


def _shard_id(key: str) -> ShardID:
    if not DECIMAL.fullmatch(key) or int(key) > MAX_UINT64:
        raise BadReply(f"the list of shards has a key that is not a shard ID: {key[:40]!a}")
    return ShardID(int(key))


def _owner(value: object) -> OwnerStatus:
    return owner_status(ReplyFields.item(value, "the list of shards"))


# --- framing ------------------------------------------------------------------------------


def _tlv(type_: int, build: Callable[[], Message]) -> bytes:
    with fitting("a value of a coordinator message"):
        raw = build().SerializeToString()
    return bytes([type_]) + len(raw).to_bytes(8, "big") + raw


def _check_names(database: str, policy: str) -> None:
    check_name("database", database)
    check_name("retention policy", policy)


def _go_time(since_ns: int | None) -> int:
    return GO_ZERO_NS if since_ns is None else since_ns


def _time(since_ns: int) -> int | None:
    return None if since_ns in (0, GO_ZERO_NS) else since_ns


def _text(value: str) -> str:
    # The parser returns proto2 strings that are not UTF-8 as bytes.
    if not isinstance(value, str):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadReply("a message holds text that is not UTF-8")
    return value
