"""Requests of the TCP snapshotter service (8088), in both directions.

A connection carries one request:

    0x03 | type, 1 byte | one JSON object and a newline | payload of type 6
    0x03 | 7            | shard ID, uint64 big-endian   | tar stream

The server answers with bytes until it closes (snapshotter_replies.py); it knows no error
reply. `encode()` gives what Go's client sends, byte for byte, without the leading 0x03,
which belongs to the multiplexer in front of the service.

Source: influxdb services/snapshotter/service.go and client.go, tcp/mux.go.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

from resources.errors import BadReply
from resources.model import ShardID
from resources.protocol.stream import Parsing, StreamReader
from resources.protocol.strict_json import decode_json, is_integer, is_object
from resources.protocol.times import ZERO_TIME, format_time, parse_time

MUX_HEADER = b"\x03"
"""Selects the snapshotter on a port that several services share."""

MAX_UINT64 = 2**64 - 1
MAX_META_BYTES = 64 * 2**20
"""A metastore of 64 MiB has about two million shards."""

MAX_REQUEST_BYTES = 64 * 2**10
"""A request's JSON holds four names and a few numbers."""


class RequestType(IntEnum):
    """The byte that decides; the JSON's `Type` is only for the server's log."""

    SHARD_BACKUP = 0
    METASTORE_BACKUP = 1
    SERIES_FILE_BACKUP = 2
    DATABASE_INFO = 3
    RETENTION_POLICY_INFO = 4
    SHARD_EXPORT = 5
    METASTORE_UPDATE = 6
    SHARD_UPDATE = 7


@dataclass(frozen=True, slots=True)
class ShardBackup:
    """Send the shard's files that changed after `since_ns`; the cache is flushed first."""

    shard_id: ShardID
    since_ns: int | None = None
    database: str = ""
    """Ignored by servers, like `policy`; Go's client fills both."""
    policy: str = ""

    def encode(self) -> bytes:
        return _encode(
            RequestType.SHARD_BACKUP,
            BackupDatabase=self.database,
            BackupRetentionPolicy=self.policy,
            ShardID=self.shard_id,
            Since=format_time(self.since_ns),
        )


@dataclass(frozen=True, slots=True)
class MetastoreBackup:
    """Send the whole metastore, users with their password hashes included."""

    def encode(self) -> bytes:
        return _encode(RequestType.METASTORE_BACKUP)


@dataclass(frozen=True, slots=True)
class SeriesFileBackup:
    """Reserved: no server ever answered it."""

    def encode(self) -> bytes:
        return _encode(RequestType.SERIES_FILE_BACKUP)


@dataclass(frozen=True, slots=True)
class DatabasePaths:
    """List the shards of a database, or of all when the name is empty."""

    database: str = ""

    def encode(self) -> bytes:
        return _encode(RequestType.DATABASE_INFO, BackupDatabase=self.database)


@dataclass(frozen=True, slots=True)
class RetentionPolicyPaths:
    """List the shards of one retention policy."""

    database: str
    policy: str

    def encode(self) -> bytes:
        return _encode(
            RequestType.RETENTION_POLICY_INFO,
            BackupDatabase=self.database,
            BackupRetentionPolicy=self.policy,
        )


@dataclass(frozen=True, slots=True)
class ShardExport:
    """Send blocks between two times, whole blocks and not exactly.

    Servers up to 1.12 send one block only unless both bounds are given.
    """

    shard_id: ShardID
    start_time_ns: int | None
    end_time_ns: int | None

    def encode(self) -> bytes:
        return _encode(
            RequestType.SHARD_EXPORT,
            ShardID=self.shard_id,
            ExportStart=format_time(self.start_time_ns),
            ExportEnd=format_time(self.end_time_ns),
        )


@dataclass(frozen=True, slots=True)
class MetastoreUpdate:
    """Create databases, policies, groups and empty shards after a metastore of elsewhere.

    An empty `database` imports all but `_internal`, under their own names. Owners, users
    and continuous queries are not taken over.
    """

    database: str
    restore_database: str
    policy: str
    restore_policy: str
    meta: bytes = field(repr=False)

    def encode(self) -> bytes:
        head = _encode(
            RequestType.METASTORE_UPDATE,
            BackupDatabase=self.database,
            RestoreDatabase=self.restore_database,
            BackupRetentionPolicy=self.policy,
            RestoreRetentionPolicy=self.restore_policy,
            UploadSize=len(self.meta),
        )
        return head + self.meta


@dataclass(frozen=True, slots=True)
class ShardUpdate:
    """Replace a shard's files by the tar stream that follows."""

    shard_id: ShardID

    def encode(self) -> bytes:
        return bytes([RequestType.SHARD_UPDATE]) + self.shard_id.to_bytes(8, "big")


Request: TypeAlias = (
    ShardBackup
    | MetastoreBackup
    | SeriesFileBackup
    | DatabasePaths
    | RetentionPolicyPaths
    | ShardExport
    | MetastoreUpdate
    | ShardUpdate
)


def request(reader: StreamReader) -> Parsing[Request]:
    """Read a request from behind the mux header; a tar stream is left in the reader.

    The server's leniency: keys in any case, unknown keys ignored, missing keys and null
    are zero values, no newline needed unless a payload follows. The type byte decides.

    Raises:
        BadReply: an unknown type, no JSON object, a field of the wrong kind or out of
            range, a payload beyond MAX_META_BYTES.
        PeerClosedEarly: EOF before the end of the request.

    Source: influxdb services/snapshotter/service.go, readRequest and handleConn.
    """
    number = yield from reader.read_byte("the request type")
    if number == RequestType.SHARD_UPDATE:
        return ShardUpdate(ShardID((yield from reader.read_uint64("the shard ID"))))
    if number > RequestType.SHARD_UPDATE:
        raise BadReply(f"request of unknown type {number}")
    raw = yield from reader.read_json_object("the request", limit=MAX_REQUEST_BYTES)
    asked = _Asked(raw)
    match RequestType(number):
        case RequestType.SHARD_BACKUP:
            return ShardBackup(
                asked.shard_id(),
                asked.time("Since"),
                asked.text("BackupDatabase"),
                asked.text("BackupRetentionPolicy"),
            )
        case RequestType.METASTORE_BACKUP:
            return MetastoreBackup()
        case RequestType.SERIES_FILE_BACKUP:
            return SeriesFileBackup()
        case RequestType.DATABASE_INFO:
            return DatabasePaths(asked.text("BackupDatabase"))
        case RequestType.RETENTION_POLICY_INFO:
            return RetentionPolicyPaths(
                asked.text("BackupDatabase"), asked.text("BackupRetentionPolicy")
            )
        case RequestType.SHARD_EXPORT:
            return ShardExport(asked.shard_id(), asked.time("ExportStart"), asked.time("ExportEnd"))
        case _:
            size = asked.number("UploadSize", limit=MAX_META_BYTES)
            if size:
                # The server skips one byte, whatever it is, between JSON and payload.
                yield from reader.read_byte("the newline before the payload")
            return MetastoreUpdate(
                database=asked.text("BackupDatabase"),
                restore_database=asked.text("RestoreDatabase"),
                policy=asked.text("BackupRetentionPolicy"),
                restore_policy=asked.text("RestoreRetentionPolicy"),
                meta=(yield from reader.read_exactly(size, "the payload")),
            )


_ZERO_REQUEST: Mapping[str, object] = {
    "Type": 0,
    "BackupDatabase": "",
    "RestoreDatabase": "",
    "BackupRetentionPolicy": "",
    "RestoreRetentionPolicy": "",
    "ShardID": 0,
    "Since": ZERO_TIME,
    "ExportStart": ZERO_TIME,
    "ExportEnd": ZERO_TIME,
    "UploadSize": 0,
}
"""All keys in Go's order; Go leaves none out."""


def _encode(kind: RequestType, **asked: object) -> bytes:
    return bytes([kind]) + go_json({**_ZERO_REQUEST, "Type": int(kind), **asked})


def go_json(value: object) -> bytes:
    """One line of JSON as Go's encoder writes it: no spaces, and `<`, `>`, `&` escaped."""
    text = _GO_JSON(value)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text.encode() + b"\n"


_GO_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class _Asked:
    """The JSON of a request, its keys folded as Go folds them."""

    def __init__(self, raw: bytes) -> None:
        decoded = decode_json(raw, "the request")
        if not is_object(decoded):
            raise BadReply("the request is not a JSON object")
        self._values: dict[str, Any] = {key.lower(): value for key, value in decoded.items()}
        for name in _ZERO_REQUEST:
            # The server decodes all fields, so one that is wrong but unused fails it too.
            if name in ("Since", "ExportStart", "ExportEnd"):
                self.time(name)
            elif name == "Type":
                self.number(name, limit=255)
            elif name == "ShardID":
                self.shard_id()
            elif name == "UploadSize":
                self.number(name, limit=MAX_META_BYTES)
            else:
                self.text(name)

    def text(self, name: str) -> str:
        value = self._values.get(name.lower())
        if value is None:
            return ""
        if not isinstance(value, str):
            raise BadReply(f"the request's {name} is not a string")
        return value

    def number(self, name: str, limit: int) -> int:
        value = self._values.get(name.lower())
        if value is None:
            return 0
        if not is_integer(value) or not 0 <= value <= limit:
            raise BadReply(f"the request's {name} is not an integer of 0 to {limit}")
        return value

    def shard_id(self) -> ShardID:
        return ShardID(self.number("ShardID", limit=MAX_UINT64))

    def time(self, name: str) -> int | None:
        if self._values.get(name.lower()) is None:
            return None
        return parse_time(self.text(name), f"the request's {name}")
